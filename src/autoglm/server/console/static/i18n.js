// Words of the page in both languages. Words of the model and of the phone are never translated.

const WORDS = {
  skip: ['跳到任务输入框', 'Skip to the task'],
  console: ['控制台', 'console'],
  key: ['访问密钥', 'API key'],
  'key-why': ['此服务器需要密钥。密钥只保存在本标签页中。', 'This server asks for a key. It is kept in this tab only.'],
  save: ['保存', 'Save'],
  'interface-language': ['界面语言', 'Language of this page'],
  phone: ['手机', 'Phone'],
  back: ['返回', 'Back'],
  home: ['主屏幕', 'Home'],
  'glass-label': ['手机屏幕', 'Phone screen'],
  'glass-help': [
    '可用鼠标或触摸直接操作：点按、长按、拖动。键盘：方向键移动光标，回车点按，Shift+方向键滑动，Backspace 返回，Home 回到主屏幕。',
    'Works by mouse and touch: tap, hold, drag. By keyboard: arrows move a cross, Enter taps, Shift and an arrow swipes, Backspace goes back, Home goes home.',
  ],
  'type-label': ['在手机上输入文字', 'Text to type on the phone'],
  'type-hint': ['向手机当前输入框输入…', 'Type into the focused field…'],
  type: ['输入', 'Type'],
  phones: ['模拟手机', 'Simulated phones'],
  seed: ['种子', 'Seed'],
  'by-chance': ['随机', 'random'],
  language: ['语言', 'Language'],
  theme: ['主题', 'Theme'],
  'by-seed': ['由种子定', 'by seed'],
  light: ['浅色', 'light'],
  dark: ['深色', 'dark'],
  'new-phone': ['新建手机', 'New phone'],
  remove: ['移除', 'Remove'],
  'phone-n': ['手机 {seed}', 'Phone {seed}'],
  task: ['让手机做什么？', 'What should the phone do?'],
  'task-hint': ['例如：打开设置，连接 WLAN', 'For example: turn on Bluetooth'],
  run: ['开始', 'Run'],
  stop: ['停止', 'Stop'],
  suggestions: ['任务建议', 'Suggested tasks'],
  slow: ['每步稍停，便于观看（不计入耗时）', 'Pause before each action, to follow (not counted as latency)'],
  thought: ['模型的思考', 'The model’s thought'],
  'thought-empty': ['选择一个任务，模型的思考会显示在这里。', 'Pick a task: what the model thinks appears here as it writes.'],
  'take-over': ['接管手机', 'Take over'],
  resume: ['交还并继续', 'Hand back'],
  history: ['操作记录', 'Actions'],
  'history-empty': ['还没有操作。', 'No actions yet.'],
  figures: ['指标', 'Figures'],
  latency: ['单步延迟', 'Step latency'],
  'to-action': ['截图到动作，中位数', 'screen to action, median'],
  caches: ['缓存命中', 'Cache hits'],
  memory: ['内存', 'Memory'],
  p95: ['第 95 百分位', '95th percentile'],
  steps: ['步数', 'Steps'],
  capture: ['截图', 'capture'],
  encode: ['编码', 'encode'],
  prefill: ['预填充', 'prefill'],
  decode: ['解码', 'decode'],
  waited: ['等待用户', 'waited'],
  act: ['执行', 'act'],
  'cache-prompt': ['提示词前缀', 'Prompt prefix'],
  'cache-visual': ['视觉特征', 'Visual features'],
  'cache-image': ['处理后的图像', 'Processed images'],
  'tokens-of': ['{a} / {b} 个词元', '{a} of {b} tokens'],
  'looks-of': ['{a} / {b} 次', '{a} of {b} lookups'],
  hits: ['各级缓存命中率', 'Hit rates by level'],
  'hits-note': ['最近 {minutes} 分钟；灰：查询，蓝：命中', 'Last {minutes} minutes. Grey: looked up, blue: found'],
  'level-kv_prefix': ['KV 前缀（引擎）', 'KV prefix (engine)'],
  'level-kv_host': ['KV 主存层', 'KV in host memory'],
  'level-visual_features': ['视觉特征', 'Visual features'],
  'level-processed_images': ['处理后的图像', 'Processed images'],
  'level-prompt_tokens': ['词元与模板', 'Tokens, templates'],
  'level-local': ['本地一级', 'Local level'],
  'level-redis': ['Redis 二级', 'Redis level'],
  'level-dialogue': ['对话', 'Dialogue'],
  off: ['关闭', 'off'],
  unused: ['尚未使用', 'not used yet'],
  'engine-memory': ['引擎进程', 'Engine process'],
  'kv-memory': ['KV 块使用', 'KV blocks in use'],
  'cache-memory': ['{name}', '{name}'],
  'engine-ready': ['{model}', '{model}'],
  'engine-starting': ['模型加载中…', 'loading the model…'],
  'engine-backoff': ['引擎重启中…', 'engine is restarting…'],
  'engine-stopped': ['引擎已停止', 'engine stopped'],
  'engine-locked': ['需要访问密钥', 'API key needed'],
  'engine-lost': ['连接已断开，重试中…', 'connection lost, trying again…'],
  'status-running': ['第 {step} 步', 'step {step}'],
  'status-asking': ['等待你的回答', 'waits for you'],
  'status-pausing': ['本步结束后暂停', 'pauses after this step'],
  'status-paused': ['已暂停，手机由你操作', 'paused: the phone is yours'],
  'status-stopping': ['正在停止…', 'stopping…'],
  locked: ['代理正在操作手机。要自己操作，请先接管。', 'The agent has the phone. Take over to use it yourself.'],
  'ask-confirm': ['要允许这一步吗？', 'Allow this step?'],
  'ask-take_over': ['请你来操作', 'Your turn'],
  allow: ['允许', 'Allow'],
  deny: ['拒绝', 'Deny'],
  'done-it': ['我已完成，继续', 'Done, go on'],
  'give-up': ['放弃任务', 'End the task'],
  'outcome-finished': ['已结束', 'finished'],
  'outcome-reached': ['已完成，已核对', 'done, checked'],
  'outcome-missed': ['未达成目标', 'goal not reached'],
  'outcome-denied': ['已拒绝', 'denied'],
  'outcome-unanswered': ['无人回答', 'unanswered'],
  'outcome-step_limit': ['步数用尽', 'step limit'],
  'outcome-stuck': ['陷入重复', 'went in circles'],
  'outcome-unparseable': ['输出无法解析', 'no readable action'],
  'outcome-model_error': ['模型出错', 'model error'],
  'outcome-device_error': ['设备出错', 'device error'],
  'outcome-cancelled': ['已停止', 'stopped'],
  'outcome-running': ['进行中', 'running'],
  'no-effect': ['屏幕没有变化', 'nothing changed'],
  rejected: ['输出不是合法动作：{reason}', 'The output was no action: {reason}'],
  retrying: ['（重试）', ' (trying once more)'],
  'you-allowed': ['已允许', 'allowed'],
  'you-denied': ['已拒绝', 'denied'],
  'show-step': ['查看第 {step} 步的屏幕', 'Show the screen of step {step}'],
  'phone-gone': ['这部手机已不在。', 'This phone is gone.'],
  Tap: ['点按', 'Tap'],
  DoubleTap: ['双击', 'Double tap'],
  LongPress: ['长按', 'Hold'],
  Swipe: ['滑动', 'Swipe'],
  Type: ['输入', 'Type'],
  Launch: ['启动', 'Launch'],
  Back: ['返回', 'Back'],
  Home: ['主屏幕', 'Home'],
  Wait: ['等待', 'Wait'],
  TakeOver: ['请求接管', 'Hand over'],
  Interact: ['请你选择', 'Ask to choose'],
  Note: ['记录', 'Note'],
  CallApi: ['总结', 'Summarise'],
  Finish: ['结束', 'Finish'],
};

let column = 0;
const listeners = [];

export const language = () => (column === 0 ? 'zh' : 'en');

/** The word for `id`, with {places} filled in. */
export function t(id, places = {}) {
  const text = WORDS[id]?.[column] ?? id;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(places[name] ?? ''));
}

export function onLanguage(listener) {
  listeners.push(listener);
}

export function setLanguage(code) {
  column = code === 'zh' ? 0 : 1;
  localStorage.setItem('language', language());
  document.documentElement.lang = language() === 'zh' ? 'zh-CN' : 'en';
  document.title = `AutoGLM ${t('console')}`;
  const each = (attribute, apply) => {
    for (const element of document.querySelectorAll(`[${attribute}]`)) apply(element, t(element.getAttribute(attribute)));
  };
  each('data-i18n', (element, text) => { element.textContent = text; });
  each('data-i18n-label', (element, text) => { element.setAttribute('aria-label', text); element.title = text; });
  each('data-i18n-placeholder', (element, text) => { element.placeholder = text; });
  for (const button of document.querySelectorAll('[data-lang]')) {
    button.setAttribute('aria-pressed', String(button.dataset.lang === language()));
  }
  for (const listener of listeners) listener();
}

export function firstLanguage() {
  return localStorage.getItem('language') ?? (navigator.language.startsWith('zh') ? 'zh' : 'en');
}

export const number = (value, digits = 0) => value.toLocaleString(language() === 'zh' ? 'zh-CN' : 'en', {
  minimumFractionDigits: digits, maximumFractionDigits: digits,
});

export function ms(value) {
  if (value >= 1000) return `${number(value / 1000, value < 10000 ? 2 : 1)} s`;
  return `${number(value, value < 10 ? 1 : 0)} ms`;
}

export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${number(value, unit > 1 && value < 100 ? 1 : 0)} ${units[unit]}`;
}
