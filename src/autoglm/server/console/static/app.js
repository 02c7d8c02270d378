// The console page: one phone in front, its event stream, and what a person does.

import { $, h, toast } from './dom.js';
import { ApiError, call, events, key } from './api.js';
import { firstLanguage, language, onLanguage, setLanguage, t } from './i18n.js';
import { Figures } from './figures.js';
import { Glass } from './glass.js';
import { Hits } from './hits.js';
import { outcome, Steps } from './steps.js';

const FIGURES_MS = 2000;
const FOLLOW_SECONDS = 0.7;

let phone = null; // the phone's state, as the server last told it
let step = 0;
let lastEnd = null;
let live = false; // the history has been told; what comes now happens now
let reading = null; // ends the stream of the phone before

const path = (rest) => `phones/${phone.id}/${rest}`;
const glass = new Glass((gesture) => attempt(() => call('POST', path('input'), gesture)));
const steps = new Steps(glass, () => phone.id);
const figures = new Figures(() => steps.falls());
const hits = new Hits();

/** Do something; say what went wrong. */
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) askKey();
    else if (error instanceof ApiError && error.code === 'conflict' && busy()) toast(t('locked'));
    else toast(error.message);
    return null;
  }
}

const busy = () => phone?.task && !['paused'].includes(phone.task.status) && phone.question?.kind !== 'take_over';

// --- phones ------------------------------------------------------------------------------------------------------

async function listPhones() {
  const found = await attempt(() => call('GET', 'phones'));
  if (!found) return [];
  $('phones').replaceChildren(...found.phones.map((one) => h('li', {},
    h('button', {
      type: 'button', class: 'pick', 'aria-current': String(one.id === phone?.id), onclick: () => open(one),
    }, describe(one)),
    h('button', { type: 'button', class: 'drop', 'aria-label': `${t('remove')}: ${describe(one)}`, title: t('remove'), onclick: () => drop(one) }, '×'))));
  return found.phones;
}

const describe = (one) => `${t('phone-n', one)} · ${one.language === 'zh' ? '中文' : 'English'} · ${t(one.theme)}`;

async function create(wanted) {
  const made = await attempt(() => call('POST', 'phones', wanted));
  if (made) await open(made);
}

async function drop(one) {
  await attempt(() => call('DELETE', `phones/${one.id}`));
  const left = await listPhones();
  if (one.id !== phone?.id) return;
  if (left.length) await open(left.at(-1)); else await create({ language: language() });
}

async function open(one) {
  reading?.abort();
  phone = one;
  step = 0;
  lastEnd = null;
  location.replace(`#${one.id}`);
  steps.clear();
  $('chips').replaceChildren();
  glass.show(one);
  follow(one.id);
  drawState();
  await Promise.all([listPhones(), suggest()]);
}

/** Keep reading the phone's events; after a break go on where it was. */
async function follow(id) {
  const mine = reading = new AbortController();
  let seen = null;
  let pause = 500;
  while (!mine.signal.aborted) {
    live = false;
    try {
      await events(id, seen, mine.signal, (event) => {
        pause = 500;
        if (event.seq) seen = event.seq;
        if (event.type === 'closed') { mine.abort(); gone(event.reason); }
        else if (event.type === 'error') seen = null;
        else take(event);
      });
      if (seen === null) steps.clear();
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof ApiError && error.status === 404) { gone(t('phone-gone')); return; }
      if (error instanceof ApiError && error.status === 401) { askKey(); return; }
      figures.engine(null);
    }
    await new Promise((resolve) => { setTimeout(resolve, pause); });
    pause = Math.min(2 * pause, 5000);
  }
}

function gone(reason) {
  toast(reason);
  glass.lock(true);
  listPhones();
}

// --- events ------------------------------------------------------------------------------------------------------

function take(event) {
  if (event.type === 'state') { phone = event.phone; drawState(); return; }
  if (event.type === 'frame') { live = true; glass.name(event.app); glass.refresh(); return; }
  steps.take(event);
  if (event.type === 'task') lastEnd = null;
  if (event.type === 'step') { step = event.step; drawStatus(); }
  if (event.type === 'decided' && live) glass.mark(event.gesture, event.points, 'agent');
  if (event.type === 'ended') { lastEnd = event; drawStatus(); if (live) suggest(); }
  if (event.type === 'timed' || event.type === 'ended') {
    figures.latency();
    figures.refresh().catch(() => {}); // the next poll says what is wrong
  }
}

function drawState() {
  const running = phone.task !== null;
  $('run').hidden = running;
  $('stop').hidden = !running;
  $('instruction').readOnly = running;
  for (const chip of $('chips').children) chip.disabled = running;
  glass.lock(Boolean(busy()));
  $('phone-facts').textContent = `${t('phone-n', phone)} · ${phone.width} × ${phone.height}`;
  const paused = ['pausing', 'paused'].includes(phone.task?.status);
  const asked = phone.question !== null;
  $('take-over').hidden = !running || asked;
  $('take-over').textContent = t(paused ? 'resume' : 'take-over');
  $('glass-note').hidden = phone.task?.status !== 'paused';
  $('glass-note').textContent = t('status-paused');
  drawQuestion(phone.question);
  drawStatus();
}

function drawStatus() {
  const status = phone?.task?.status;
  const [text, tone] = status ? [t(`status-${status}`, { step: Math.max(step, 1) }), status === 'running' ? '' : 'warn']
    : lastEnd ? outcome(lastEnd) : ['', ''];
  $('status').textContent = text;
  $('status').dataset.tone = tone;
}

function drawQuestion(question) {
  const box = $('ask');
  const opens = box.hidden && question;
  box.hidden = !question;
  if (!question) return;
  const confirm = question.kind === 'confirm';
  $('ask-title').textContent = t(`ask-${question.kind}`);
  $('ask-text').textContent = question.message;
  $('allow').textContent = t(confirm ? 'allow' : 'done-it');
  $('deny').textContent = t(confirm ? 'deny' : 'give-up');
  if (opens) $('deny').focus({ preventScroll: true });
}

// --- what a person does ------------------------------------------------------------------------------------------

async function suggest() {
  const asked = phone.id;
  const found = await attempt(() => call('GET', path('suggestions')));
  if (!found || asked !== phone.id) return;
  $('chips').replaceChildren(...found.suggestions.map((text) => h('button', {
    type: 'button', title: text, lang: phone.language, disabled: phone.task !== null, onclick: () => { $('instruction').value = text; start(); },
  }, text)));
}

async function start() {
  const instruction = $('instruction').value.trim();
  if (!instruction) { $('instruction').focus(); return; }
  glass.preview();
  await attempt(() => call('POST', path('task'), { instruction, pause: $('slow').checked ? FOLLOW_SECONDS : 0 }));
}

function answer(allow) {
  const { question } = phone.question ?? {};
  if (question) attempt(() => call('POST', path('answer'), { question, allow }));
}

function askKey() {
  $('key-button').hidden = false;
  const dialog = $('key-dialog');
  $('key-text').value = key.get();
  if (!dialog.open) dialog.showModal();
}

function listen() {
  const submit = (id, action) => $(id).addEventListener('submit', (event) => { event.preventDefault(); action(); });
  submit('task-form', start);
  submit('type-form', async () => {
    const done = await attempt(() => call('POST', path('input'), { kind: 'type', text: $('type-text').value }));
    if (done) $('type-text').value = '';
  });
  submit('new-phone', () => {
    const wanted = {};
    if ($('seed').value) wanted.seed = Number($('seed').value);
    if ($('phone-language').value) wanted.language = $('phone-language').value;
    if ($('phone-theme').value) wanted.theme = $('phone-theme').value;
    create(wanted);
  });
  $('stop').addEventListener('click', () => attempt(() => call('DELETE', path('task'))));
  $('take-over').addEventListener('click', () => attempt(
    () => call('POST', path(['pausing', 'paused'].includes(phone.task?.status) ? 'resume' : 'take-over')),
  ));
  $('allow').addEventListener('click', () => answer(true));
  $('deny').addEventListener('click', () => answer(false));
  $('key-button').addEventListener('click', askKey);
  $('key-form').addEventListener('submit', () => { key.set($('key-text').value.trim()); begin(); });
  for (const button of document.querySelectorAll('[data-lang]')) {
    button.addEventListener('click', () => setLanguage(button.dataset.lang));
  }
  onLanguage(() => { if (phone) { drawState(); listPhones(); } });
}

async function pollFigures() {
  for (;;) {
    if (!document.hidden) {
      await Promise.all([figures.refresh(), hits.refresh()]).catch((error) => figures.engine(error.status === 401 ? { engine: 'locked' } : null));
    }
    await new Promise((resolve) => { setTimeout(resolve, FIGURES_MS); });
  }
}

async function begin() {
  const found = await attempt(() => call('GET', 'phones'));
  if (!found) return;
  const wanted = location.hash.slice(1);
  const known = found.phones.find((one) => one.id === wanted) ?? found.phones.at(-1);
  if (known) await open(known); else await create({ language: language() });
}

listen();
$('key-button').hidden = !key.get();
setLanguage(firstLanguage());
begin();
pollFigures();
