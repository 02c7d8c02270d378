// The thought as it is written, the question to the person, and the history with a waterfall for each step.

import { $, h, place, s } from './dom.js';
import { picture } from './api.js';
import { ms, onLanguage, t } from './i18n.js';

export const PHASES = ['capture', 'encode', 'prefill', 'decode', 'act'];
const MAX_RUNS = 20;

export class Steps {
  /** @param glass shows earlier screens; @param phone gives the phone's id */
  constructor(glass, phone) {
    this.glass = glass;
    this.phone = phone;
    this.clear();
    onLanguage(() => this.#redraw());
  }

  clear() {
    this.runs = [];
    this.pinned = null;
    $('history').replaceChildren();
    $('history-empty').hidden = false;
    this.#think('', false);
  }

  /** Every waterfall that is shown. */
  falls() {
    return this.runs.flatMap((run) => run.steps.map((step) => step.ms).filter(Boolean));
  }

  take(event) {
    if (event.type === 'task') { this.#start(event); return; }
    if (event.type === 'thought') { this.#stream(event); return; }
    const run = this.runs.find((one) => one.task === event.task);
    if (!run) return;
    if (event.type === 'ended') { run.end = event; this.#think(event.message || $('thought').textContent, false); this.#head(run); return; }
    let step = run.steps.find((one) => one.step === event.step);
    if (!step) {
      step = { step: event.step, notes: [] };
      run.steps.push(step);
      step.row = h('li', { class: 'step' });
      run.list.append(step.row);
    }
    if (event.type === 'step') this.#think('', true);
    else if (event.type === 'decided') { step.decided = event; this.#think(event.think, false); }
    else if (event.type === 'rejected') step.notes.push((p) => t('rejected', event) + (event.retrying ? t('retrying') : ''));
    else if (event.type === 'acted') this.#acted(step, event);
    else if (event.type === 'answered' && event.granted !== null) step.notes.push(() => t(event.granted ? 'you-allowed' : 'you-denied'));
    else if (event.type === 'timed') step.ms = event.ms;
    this.#row(run, step);
    if (event.type === 'timed') this.#scale(run);
    this.#head(run);
  }

  #acted(step, event) {
    if (event.note) step.notes.push(() => event.note);
    else if (!event.changed) step.notes.push(() => t('no-effect'));
  }

  #start(event) {
    const list = h('ol', {});
    const run = { task: event.task, instruction: event.instruction, steps: [], end: null, list };
    run.badge = h('span', { class: 'badge' });
    run.foot = h('p', { class: 'run-end', hidden: true });
    const head = h('div', { class: 'run-head' }, h('h3', {}, event.instruction), run.badge);
    run.box = h('li', { class: 'run' }, head, list, run.foot);
    this.runs.unshift(run);
    $('history').prepend(run.box);
    for (const old of this.runs.splice(MAX_RUNS)) { for (const step of old.steps) this.#forget(step); old.box.remove(); }
    $('history-empty').hidden = true;
    this.#think('', true);
    this.#head(run);
  }

  #stream(event) {
    const box = $('thought');
    const text = event.at === 0 ? '' : box.textContent;
    this.#think(text + event.text, true);
  }

  #think(text, writing) {
    const box = $('thought');
    box.textContent = text;
    box.dataset.writing = String(writing);
    box.setAttribute('aria-busy', String(writing));
  }

  #head(run) {
    const [text, tone] = outcome(run.end);
    run.badge.textContent = text;
    run.badge.dataset.tone = tone;
    run.foot.hidden = !run.end?.message;
    run.foot.textContent = run.end?.message ?? '';
  }

  #row(run, step) {
    const action = step.decided;
    if (!step.shot) step.shot = this.#thumbnail(run, step);
    const line = h('div', { class: 'step-line' },
      h('b', {}, action ? t(action.action) : '…'),
      h('span', {}, action ? detail(action) : ''),
      h('time', {}, step.ms ? ms(step.ms.to_action + step.ms.act) : ''));
    const parts = [step.shot, line];
    if (action?.think) parts.push(h('p', { class: 'step-think' }, action.think));
    for (const note of step.notes) parts.push(h('p', { class: 'step-note' }, note()));
    if (step.ms) parts.push(fall(step.ms, this.#longest(run)));
    step.row.replaceChildren(h('div', { class: 'step-shot' }, parts.shift()), h('div', { class: 'step-body' }, ...parts));
    if (action?.points.length && !step.shot.querySelector('i')) {
      step.shot.append(place(h('i', {}), action.points[0]));
    }
  }

  #longest(run) {
    return Math.max(1, ...run.steps.map((step) => (step.ms ? step.ms.to_action + step.ms.act : 0)));
  }

  /** All bars of a run share one scale. */
  #scale(run) {
    const longest = this.#longest(run);
    for (const step of run.steps) if (step.ms) step.row.querySelector('.fall')?.replaceWith(fall(step.ms, longest));
  }

  #thumbnail(run, step) {
    const image = h('img', { alt: '', loading: 'lazy' });
    const button = h('button', { type: 'button', class: 'shot' }, image);
    button.setAttribute('aria-label', t('show-step', step));
    const show = () => {
      if (step.url) this.glass.preview(step.url, step.decided?.gesture ?? '', step.decided?.points ?? []);
    };
    const leave = () => { if (this.pinned !== step) this.glass.preview(); };
    button.addEventListener('pointerenter', (event) => { if (event.pointerType === 'mouse') show(); });
    button.addEventListener('pointerleave', (event) => { if (event.pointerType === 'mouse') leave(); });
    button.addEventListener('blur', () => { this.pinned = null; this.glass.preview(); });
    button.addEventListener('click', () => {
      this.pinned = this.pinned === step ? null : step;
      if (this.pinned) show(); else this.glass.preview();
    });
    picture(`phones/${this.phone()}/shots/${run.task}/${step.step}`).then((found) => {
      if (!found) return;
      step.url = URL.createObjectURL(found.blob);
      image.src = step.url;
    }).catch(() => {});
    return button;
  }

  #forget(step) {
    if (step.url) URL.revokeObjectURL(step.url);
  }

  #redraw() {
    $('thought').dataset.empty = t('thought-empty');
    $('legend').replaceChildren(...PHASES.map((phase) => h('li', {}, swatch(phase), t(phase))));
    for (const run of this.runs) {
      for (const step of run.steps) this.#row(run, step);
      this.#head(run);
    }
  }
}

export function swatch(phase) {
  const box = h('i', { 'aria-hidden': 'true' });
  box.style.background = `var(--${phase})`;
  return box;
}

function detail(action) {
  if (action.points.length) return action.points.map((point) => point.join(', ')).join(' → ');
  return action.words ? `“${action.words}”` : '';
}

/** [text, tone] of how a run ended. */
export function outcome(end) {
  if (!end) return [t('outcome-running'), ''];
  if (end.outcome === 'finished') {
    if (end.reached === true) return [t('outcome-reached'), 'good'];
    if (end.reached === false) return [t('outcome-missed'), 'bad'];
    return [t('outcome-finished'), 'good'];
  }
  return [t(`outcome-${end.outcome}`), ['cancelled', 'denied', 'unanswered'].includes(end.outcome) ? 'warn' : 'bad'];
}

/** One bar: the phases one after the other. */
function fall(times, longest) {
  let x = 0;
  const parts = PHASES.map((phase) => {
    const width = (1000 * times[phase]) / longest;
    const part = s('rect', { x, y: 0, width: Math.max(width - 2, 0.5), height: 10 }, s('title', {}, `${t(phase)} ${ms(times[phase])}`));
    part.style.fill = `var(--${phase})`;
    x += width;
    return part;
  });
  const label = PHASES.map((phase) => `${t(phase)} ${ms(times[phase])}`).join(', ');
  return s('svg', { class: 'fall', viewBox: '0 0 1000 10', preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, ...parts);
}
