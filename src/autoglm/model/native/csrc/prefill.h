// Many rows through the layers: prefill. Each thread takes some panels (panels.h) through everything; they wait for each
// other once a layer, when keys and values are written. Included behind forward.h, once per instruction set.
#include "panels.h"
#include "panel_attention.h"

static int kv_width(const model_t *m) { return m->kv_heads * m->head_dim; }
static int q_width(const model_t *m) { return m->heads * m->head_dim; }

static float *panel_at(float *base, int panel, int width) { return base + (int64_t)panel * width * LANES; }

// Pointers to a group's panels of a batch's memory, or of a thread's.
static void panels_of(float *base, int width, const group_t *g, int own, float **out) {
  for (int i = 0; i < g->count; i++) out[i] = panel_at(base, own ? i : g->panel[i], width);
}

static void meet(worker_t *w) {
  pool_barrier(w->decoder);
  mark(w, WAIT);
}

static void read_rows(worker_t *w) {
  decoder_t *d = w->decoder;
  const batch_t *b = &d->all;
  const int hidden = d->model.hidden, turns = 2 * d->model.rotary_pairs;
  for (int p = w->index; p < b->panels; p += d->model.threads) {
    const int64_t row = (int64_t)p * b->each;
    const int count = rows_in(b, p);
    panel_of_rows(panel_at(b->x, p, hidden), d->step->in + row * hidden, count, hidden);
    if (d->step->rotation) panel_of_rows(panel_at(b->rotation, p, turns), d->step->rotation + row * turns, count, turns);
  }
  mark(w, TURN);
}

static void write_rows(worker_t *w, const batch_t *b) {
  decoder_t *d = w->decoder;
  const int hidden = d->model.hidden;
  for (int p = w->index; p < b->panels; p += d->model.threads) {
    rows_of_panel(d->step->out + (int64_t)p * b->each * hidden, panel_at(b->x, p, hidden), rows_in(b, p), hidden);
  }
  mark(w, TURN);
}

// The wanted rows on their own, once all threads are done with the rows they came from.
static void collect_wanted(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const batch_t *b = &d->wanted;
  const int pairs = 2 * m->rotary_pairs;
  for (int p = w->index; p < b->panels; p += m->threads)
    for (int lane = 0; lane < LANES; lane++) {
      const int last = rows_in(b, p) - 1, row = (int)d->step->want[p * b->each + (lane < last ? lane : last)];
      const int from = row / d->all.each, at = row % d->all.each;
      const float *x = panel_at(d->all.x, from, m->hidden) + at, *turn = panel_at(d->all.rotation, from, pairs) + at;
      float *to_x = panel_at(b->x, p, m->hidden) + lane, *to_turn = panel_at(b->rotation, p, pairs) + lane;
      for (int k = 0; k < m->hidden; k++) to_x[k * LANES] = x[k * LANES];
      for (int k = 0; k < pairs; k++) to_turn[k * LANES] = turn[k * LANES];
    }
  mark(w, TURN);
}

// Heads [count][dim][LANES] in place.
static void rotate_panel(const model_t *m, float *x, const float *turn, int count) {
  const int step = m->halves ? 1 : 2, apart = m->halves ? m->rotary_pairs : 1;
  for (int h = 0; h < count; h++)
    for (int i = 0; i < m->rotary_pairs; i++)
      for (int v = 0; v < LANES; v += VL) {
        float *one = x + ((int64_t)h * m->head_dim + i * step) * LANES + v, *other = one + apart * LANES;
        vf a = load(one), b = load(other), c = load(turn + 2 * i * LANES + v), s = load(turn + (2 * i + 1) * LANES + v);
        store(one, a * c - b * s), store(other, a * s + b * c);
      }
}

// Keys and values [2][kv_heads][dim][LANES] of a panel of all rows to the slots of its rows.
static void write_panel_kv(const worker_t *w, int p, int layer, const float *kv) {
  const decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int dim = m->head_dim;
  for (int i = d->all.begin[p]; i < d->all.begin[p + 1]; i++) {
    const segment_t *s = &d->all.segment[i];
    const sequence_t *one = &d->step->sequence[s->sequence];
    const int64_t *slots = one->slots + (one->length - one->rows) + (p * d->all.each - one->first);
    for (int lane = s->first; lane < s->last; lane++)
      for (int h = 0; h < m->kv_heads; h++) {
        const int64_t at = layer * d->layer_stride + h * d->head_stride + slots[lane] * dim;
        const float *key = kv + (int64_t)h * dim * LANES + lane, *value = key + (int64_t)kv_width(m) * LANES;
        for (int k = 0; k < dim; k++) d->keys[at + k] = key[k * LANES], d->values[at + k] = value[k * LANES];
      }
  }
}

// Queries of a batch.
static void project_queries(worker_t *w, const batch_t *b, const layer_t *layer, const group_t *g, float *const *normed) {
  const model_t *m = &w->decoder->model;
  float *q[GROUPED];
  panels_of(b->q, q_width(m), g, 0, q);
  product(w, &layer->qkv, 0, q_width(m), g, normed, q);
  mark(w, QKV);
  for (int i = 0; i < g->count; i++)
    rotate_panel(m, q[i], panel_at(b->rotation, g->panel[i], 2 * m->rotary_pairs), m->heads);
  mark(w, WRITE);
}

// Keys and values of all rows, which are written.
static void project_keys(worker_t *w, int l, const group_t *g, float *const *normed) {
  const decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int q = q_width(m), width = kv_width(m);
  float *kv[GROUPED];
  panels_of(w->panel_kv, 2 * width, g, 1, kv);
  product(w, &m->layer[l].qkv, q, q + 2 * width, g, normed, kv);
  mark(w, QKV);
  for (int i = 0; i < g->count; i++) {
    rotate_panel(m, kv[i], panel_at(d->all.rotation, g->panel[i], 2 * m->rotary_pairs), m->kv_heads);
    write_panel_kv(w, g->panel[i], l, kv[i]);
  }
  mark(w, WRITE);
}

static void project_panels(worker_t *w, const batch_t *b, int l, int queries, int keys) {
  const model_t *m = &w->decoder->model;
  const layer_t *layer = &m->layer[l];
  EACH_GROUP(w, b, g) {
    float *x[GROUPED], *normed[GROUPED];
    panels_of(b->x, m->hidden, g, 0, x);
    panels_of(w->panel_normed, m->hidden, g, 1, normed);
    for (int i = 0; i < g->count; i++) norm_panel(normed[i], x[i], layer->input_norm, m->hidden, m->eps);
    mark(w, NORM);
    if (queries) project_queries(w, b, layer, g, normed);
    if (keys) project_keys(w, l, g, normed);
  }
}

static void attend_panel(worker_t *w, const batch_t *b, int p, int layer, const float *q, float *out) {
  const decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int group = m->heads / m->kv_heads;
  for (int i = b->begin[p]; i < b->begin[p + 1]; i++) {
    const segment_t *s = &b->segment[i];
    for (int h = 0; h < m->kv_heads; h++) {
      const int64_t base = layer * d->layer_stride + h * d->head_stride, at = (int64_t)h * group * m->head_dim * LANES;
      const stored_t kv = {d->keys + base, d->values + base, d->step->sequence[s->sequence].slots, m->head_dim};
      attend_segment(w, &kv, s, b->length + p * LANES, group, q + at, out + at);
    }
  }
}

static void attention_panels(worker_t *w, const batch_t *b, int l) {
  const model_t *m = &w->decoder->model;
  const layer_t *layer = &m->layer[l];
  EACH_GROUP(w, b, g) {
    float *x[GROUPED], *q[GROUPED], *attended[GROUPED], *projected[GROUPED];
    panels_of(b->x, m->hidden, g, 0, x);
    panels_of(b->q, q_width(m), g, 0, q);
    panels_of(w->panel_attended, q_width(m), g, 1, attended);
    panels_of(w->panel_projected, m->hidden, g, 1, projected);
    for (int i = 0; i < g->count; i++) attend_panel(w, b, g->panel[i], l, q[i], attended[i]);
    mark(w, ATTEND);
    product(w, &layer->out, 0, m->hidden, g, attended, projected);
    mark(w, OUT);
    for (int i = 0; i < g->count; i++) add_norm_panel(x[i], projected[i], layer->attended_norm, m->hidden, m->eps);
    mark(w, NORM);
  }
}

static void feed_forward_panels(worker_t *w, const batch_t *b, int l) {
  const model_t *m = &w->decoder->model;
  const layer_t *layer = &m->layer[l];
  EACH_GROUP(w, b, g) {
    float *x[GROUPED], *normed[GROUPED], *activated[GROUPED], *projected[GROUPED];
    panels_of(b->x, m->hidden, g, 0, x);
    panels_of(w->panel_normed, m->hidden, g, 1, normed);
    panels_of(w->panel_activated, m->intermediate, g, 1, activated);
    panels_of(w->panel_projected, m->hidden, g, 1, projected);
    for (int i = 0; i < g->count; i++) norm_panel(normed[i], x[i], layer->mlp_norm, m->hidden, m->eps);
    mark(w, NORM);
    gated_product(w, &layer->gate_up, g, normed, activated);
    mark(w, GATE_UP);
    product(w, &layer->down, 0, m->hidden, g, activated, projected);
    mark(w, DOWN);
    for (int i = 0; i < g->count; i++) add_norm_panel(x[i], projected[i], layer->mlp_out_norm, m->hidden, m->eps);
    mark(w, NORM);
  }
}

void PREFILL(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const prefill_t *s = d->step;
  const batch_t *b = &d->all;
  mark(w, PHASES);
  read_rows(w);
  for (int half = s->first; half < s->last; half++) {
    const int l = half / 2, leave = s->wanted >= 0 && l == m->layers - 1;
    if (half % 2) {
      feed_forward_panels(w, b, l);
      continue;
    }
    project_panels(w, b, l, !leave, 1);
    meet(w);
    if (leave) {  // of the last layer, the other rows' keys and values are all that anyone reads
      b = &d->wanted;
      collect_wanted(w);
      project_panels(w, b, l, 1, 0);
    }
    attention_panels(w, b, l);
    if (!d->layer_stride) meet(w);  // the next layer writes where this one reads
  }
  write_rows(w, b);
  meet(w);
}

// What a core can do at most: operations (two a multiply-add) of `rounds` rounds, nothing of which waits or is loaded.
double PEAK(int rounds) {
  enum { CHAINS = 12 };
  vf acc[CHAINS], a = splat(0.999f), b = splat(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; i++) acc[i] = splat((float)i);
  for (int r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+r"(rounds));  // no round is merged with another
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * a + b;
  }
  for (int i = 1; i < CHAINS; i++) acc[0] += acc[i];
  volatile float kept = sum(acc[0]);
  (void)kept;
  return 2.0 * CHAINS * VL * rounds;
}
