// Latency, cache hits and memory.

import { $, h, s } from './dom.js';
import { call } from './api.js';
import { bytes, ms, number, onLanguage, t } from './i18n.js';
import { PHASES, swatch } from './steps.js';

export class Figures {
  /** @param falls gives the waterfalls of the steps shown */
  constructor(falls) {
    this.falls = falls;
    this.last = null;
    onLanguage(() => { this.latency(); this.engine(this.last); });
  }

  async refresh() {
    this.engine(await call('GET', 'figures'));
  }

  latency() {
    const falls = this.falls();
    const toAction = falls.map((fall) => fall.to_action);
    $('latency').textContent = falls.length ? ms(quantile(toAction, 0.5)) : '–';
    const rows = PHASES.map((phase) => row(
      [swatch(phase), t(phase)], falls.length ? ms(quantile(falls.map((fall) => fall[phase]), 0.5)) : '–',
    ));
    rows.push(row([t('p95')], falls.length ? ms(quantile(toAction, 0.95)) : '–'), row([t('steps')], number(falls.length)));
    $('latency-figures').replaceChildren(...rows);
  }

  engine(found) {
    this.last = found;
    const state = found?.engine ?? 'lost';
    $('engine').dataset.state = { ready: 'ready', lost: 'error', stopped: 'error', locked: 'error' }[state] ?? 'away';
    const model = found?.model;
    $('engine-text').textContent = t(`engine-${state}`, {
      model: model ? `${found.name} · ${number(model.parameters / 1e6, model.parameters < 1e8 ? 1 : 0)} M · ${model.device} ${model.dtype}` : '',
    });
    const stats = found?.stats;
    if (!stats) return;
    const caches = [
      meter(t('cache-prompt'), stats.cached_tokens, stats.prompt_tokens, 'tokens-of'),
      ...stats.caches.filter((cache) => cache.name in CACHES).map((cache) => meter(
        t(CACHES[cache.name]), cache.hits, cache.hits + cache.misses, 'looks-of',
      )),
    ];
    $('caches').replaceChildren(...caches);
    const used = stats.kv_blocks_total - stats.kv_blocks_free;
    $('memory').replaceChildren(
      plain(t('engine-memory'), bytes(stats.resident_bytes)),
      level(t('kv-memory'), used, stats.kv_blocks_total, `${number(used)} / ${number(stats.kv_blocks_total)}`),
      ...stats.caches.filter((cache) => cache.name in CACHES && cache.capacity_bytes).map((cache) => level(
        t(CACHES[cache.name]), cache.bytes, cache.capacity_bytes, `${bytes(cache.bytes)} / ${bytes(cache.capacity_bytes)}`,
      )),
    );
  }
}

const CACHES = { visual_features: 'cache-visual', processed_images: 'cache-image' };

function row(name, value) {
  return h('div', {}, h('dt', {}, ...name), h('dd', {}, value));
}

function bar(part) {
  return s('svg', { viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('rect', { x: 0, y: 0, height: 6, width: 100 * Math.min(part, 1) }));
}

/** A hit rate. */
function meter(name, hits, all, words) {
  if (!all) return plain(name, t('unused'));
  return h('div', { class: 'meter' },
    h('div', {}, h('span', {}, name), h('b', {}, `${number((100 * hits) / all, 0)} %`)),
    bar(hits / all), h('small', {}, t(words, { a: number(hits), b: number(all) })));
}

/** A fill level. */
function level(name, part, all, text) {
  return h('div', { class: 'meter' }, h('div', {}, h('span', {}, name), h('small', {}, text)), bar(part / all));
}

function plain(name, value) {
  return h('div', { class: 'meter' }, h('div', {}, h('span', {}, name), h('b', {}, value)));
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))];
}
