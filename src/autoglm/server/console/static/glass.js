// The phone's screen: the newest picture, what is done on it, and a person's hand.

import { $, h, place, s } from './dom.js';
import { picture } from './api.js';
import { onLanguage, t } from './i18n.js';

const HOLD_MS = 550;
const DRAG = 0.035;
const MARK_MS = 1500;

export class Glass {
  /** @param act called with a gesture of the API */
  constructor(act) {
    this.act = act;
    this.phone = null;
    this.etag = '';
    this.live = null;
    this.loading = false;
    this.again = false;
    this.previewing = false;
    this.cursor = [500, 500];
    this.down = null;
    const glass = $('glass');
    glass.addEventListener('pointerdown', (event) => this.#press(event));
    glass.addEventListener('pointerup', (event) => this.#release(event));
    glass.addEventListener('pointercancel', () => { this.down = null; });
    glass.addEventListener('contextmenu', (event) => event.preventDefault());
    glass.addEventListener('keydown', (event) => this.#key(event));
    glass.addEventListener('focus', () => { if (glass.matches(':focus-visible')) this.#showCross(); });
    glass.addEventListener('blur', () => { $('marks').querySelector('.cross')?.remove(); });
    $('back').addEventListener('click', () => act({ kind: 'back' }));
    $('home').addEventListener('click', () => act({ kind: 'home' }));
    onLanguage(() => this.name(this.app ?? ''));
  }

  /** Show another phone. */
  show(phone) {
    this.phone = phone.id;
    this.etag = '';
    $('glass').style.aspectRatio = `${phone.width} / ${phone.height}`;
    $('marks').replaceChildren();
    this.refresh();
  }

  /** Name the app in front. */
  name(app) {
    this.app = app;
    $('app-name').textContent = app;
    $('glass').setAttribute('aria-label', app ? `${t('glass-label')}: ${app}` : t('glass-label'));
  }

  /** Fetch the newest picture; calls in the meantime become one more fetch. */
  async refresh() {
    if (this.loading) { this.again = true; return; }
    this.loading = true;
    do {
      this.again = false;
      const phone = this.phone;
      try {
        const found = await picture(`phones/${phone}/screen`, this.etag);
        if (found && phone === this.phone) {
          this.etag = found.etag;
          const last = this.live;
          this.live = URL.createObjectURL(found.blob);
          if (!this.previewing) await this.#paint(this.live);
          if (last) URL.revokeObjectURL(last);
        }
      } catch {
        this.again = false; // the event stream tells why, and asks again when it is back
      }
    } while (this.again);
    this.loading = false;
  }

  async #paint(url) {
    const image = $('screen');
    image.src = url;
    await image.decode().catch(() => {});
  }

  /** Draw a gesture: `points` in thousandths, `who` agent or person; `still` keeps it. */
  mark(kind, points, who, still = false) {
    if (!points.length) return;
    const marks = $('marks');
    const shape = points.length === 2
      ? this.#arrow(points)
      : place(h('div', { class: 'mark' }), points[0]);
    shape.dataset.who = who;
    shape.dataset.kind = kind;
    if (still) shape.dataset.still = '';
    marks.append(shape);
    if (!still) setTimeout(() => shape.remove(), MARK_MS);
  }

  #arrow([[x0, y0], [x1, y1]]) {
    const glass = $('glass').getBoundingClientRect();
    const at = (x, y) => [(x * glass.width) / 1000, (y * glass.height) / 1000];
    const [a, b] = [at(x0, y0), at(x1, y1)];
    const angle = Math.atan2(b[1] - a[1], b[0] - a[0]);
    const wing = (turn) => `${b[0] - 16 * Math.cos(angle + turn)} ${b[1] - 16 * Math.sin(angle + turn)}`;
    const d = `M${a.join(' ')}L${b.join(' ')}M${wing(0.6)}L${b.join(' ')}L${wing(-0.6)}`;
    const path = () => s('path', { d, pathLength: 1 });
    return s('svg', { class: 'arrow', viewBox: `0 0 ${glass.width} ${glass.height}` }, path(), path());
  }

  /** Look at an earlier screen with its gesture; without arguments: back to the live one. */
  preview(url = null, kind = '', points = []) {
    this.previewing = url !== null;
    for (const mark of $('marks').querySelectorAll('[data-still]')) mark.remove();
    if (this.previewing) this.mark(kind, points, 'agent', true);
    const shown = url ?? this.live;
    if (shown) this.#paint(shown);
  }

  lock(locked) {
    $('glass').dataset.locked = String(locked);
    $('back').disabled = $('home').disabled = locked;
  }

  #at(event) {
    const box = $('glass').getBoundingClientRect();
    const part = (value, size) => Math.min(Math.max(value / size, 0), 0.9999);
    return [part(event.clientX - box.left, box.width), part(event.clientY - box.top, box.height)];
  }

  #press(event) {
    if (event.button !== 0) return;
    this.down = { at: this.#at(event), time: event.timeStamp };
    $('glass').setPointerCapture(event.pointerId);
  }

  #release(event) {
    if (!this.down) return;
    const [start, end] = [this.down.at, this.#at(event)];
    const held = event.timeStamp - this.down.time;
    this.down = null;
    const place = (point) => point.map((value) => Math.floor(value * 1000));
    if (Math.hypot(end[0] - start[0], end[1] - start[1]) > DRAG) this.#do('swipe', place(start), place(end));
    else this.#do(held > HOLD_MS ? 'long_press' : 'tap', place(start));
  }

  #do(kind, at, to) {
    if ($('glass').dataset.locked !== 'true') this.mark(kind, to ? [at, to] : [at], 'person');
    this.act(to ? { kind, at, to } : { kind, at });
  }

  #key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move && event.shiftKey) {
      this.#do('swipe', [500 - 200 * move[0], 500 - 200 * move[1]], [500 + 200 * move[0], 500 + 200 * move[1]]);
    } else if (move) {
      this.cursor = this.cursor.map((value, i) => Math.min(Math.max(value + move[i] * (i ? 20 : 30), 0), 999));
      this.#showCross();
    } else if (event.key === 'Enter' || event.key === ' ') this.#do('tap', this.cursor);
    else if (event.key === 'Backspace') this.act({ kind: 'back' });
    else if (event.key === 'Home') this.act({ kind: 'home' });
    else return;
    event.preventDefault();
  }

  #showCross() {
    const cross = $('marks').querySelector('.cross') ?? h('div', { class: 'cross' });
    $('marks').append(place(cross, this.cursor));
  }
}
