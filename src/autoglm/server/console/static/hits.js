// Hit rates of each level of the caches over the last minutes.

import { $, h, s } from './dom.js';
import { call } from './api.js';
import { number, onLanguage, t } from './i18n.js';

const HEIGHT = 24;
const FEW = 40; // readings that a plot has room for at least: it grows with what is known

export class Hits {
  constructor() {
    this.last = null;
    onLanguage(() => this.draw());
  }

  async refresh() {
    this.last = await call('GET', 'hits');
    this.draw();
  }

  draw() {
    if (!this.last) return;
    const { interval, kept, levels } = this.last;
    const shown = Math.min(kept, Math.max(FEW, levels[0].lookups.length));
    $('hits-note').textContent = t('hits-note', { minutes: number((interval * shown) / 60, 0) });
    $('hits').replaceChildren(...levels.map((level) => row(level, shown)));
  }
}

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);

function row(level, shown) {
  const name = t(`level-${level.name}`);
  const [hits, lookups] = [sum(level.hits), sum(level.lookups)];
  const rate = !level.on ? t('off') : lookups ? `${number((100 * hits) / lookups, 0)} %` : t('unused');
  const words = `${name}: ${rate}`;
  const counts = t('looks-of', { a: number(hits), b: number(lookups) });
  return h('div', { class: 'meter', 'data-level': level.name, 'data-on': String(level.on), title: level.on ? counts : null },
    h('div', {}, h('span', {}, name), h(level.on && lookups ? 'b' : 'small', {}, rate)),
    level.on ? plot(level, shown, `${words}, ${counts}`) : null);
}

/** One column for each reading with look-ups, the newest at the right: its filled part is the share of hits. */
function plot(level, shown, label) {
  const columns = [];
  level.lookups.forEach((lookups, index) => {
    if (!lookups) return;
    const x = shown - level.lookups.length + index;
    const height = (HEIGHT * level.hits[index]) / lookups;
    columns.push(
      s('rect', { class: 'asked', x, y: 0, width: 1, height: HEIGHT }),
      s('rect', { class: 'hit', x, y: HEIGHT - height, width: 1, height }),
    );
  });
  return s('svg', { class: 'plot', viewBox: `0 0 ${shown} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, ...columns);
}
