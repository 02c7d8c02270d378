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

static void rotations_of_panel(const worker_t *w, const batch_t *b, int p) {
  const model_t *m = &w->decoder->model;
  const prefill_t *s = w->decoder->step;
  float *to = b->rotation + (int64_t)p * m->rotary_pairs * 2 * LANES;
  for (int i = 0; i < m->rotary_pairs; i++)
    for (int lane = 0; lane < LANES; lane++) {
      const int row = p * LANES + lane < b->rows ? p * LANES + lane : b->rows - 1;
      const float angle = (float)s->positions[(int64_t)m->rotary_axis[i] * s->rows + row] * m->inv_freq[i];
      to[(2 * i) * LANES + lane] = cosf(angle), to[(2 * i + 1) * LANES + lane] = sinf(angle);
    }
}

static void read_rows(worker_t *w) {
  decoder_t *d = w->decoder;
  const batch_t *b = &d->all;
  const int hidden = d->model.hidden;
  for (int p = w->index; p < b->panels; p += d->model.threads) {
    const int count = b->rows - p * LANES < LANES ? b->rows - p * LANES : LANES;
    panel_of_rows(panel_at(b->x, p, hidden), d->step->in + (int64_t)p * LANES * hidden, count, hidden);
    if (d->step->last - d->step->first > 1 || d->step->first % 2 == 0) rotations_of_panel(w, b, p);
  }
}

static void write_rows(worker_t *w, const batch_t *b) {
  decoder_t *d = w->decoder;
  const int hidden = d->model.hidden;
  for (int p = w->index; p < b->panels; p += d->model.threads) {
    const int count = b->rows - p * LANES < LANES ? b->rows - p * LANES : LANES;
    rows_of_panel(d->step->out + (int64_t)p * LANES * hidden, panel_at(b->x, p, hidden), count, hidden);
  }
}

// The wanted rows on their own, once all threads are done with the rows they came from.
static void collect_wanted(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const batch_t *b = &d->wanted;
  const int pairs = 2 * m->rotary_pairs;
  for (int p = w->index; p < b->panels; p += m->threads)
    for (int lane = 0; lane < LANES; lane++) {
      const int kept = p * LANES + lane < b->rows ? p * LANES + lane : b->rows - 1, row = (int)d->step->want[kept];
      const float *x = panel_at(d->all.x, row / LANES, m->hidden) + row % LANES;
      const float *turn = panel_at(d->all.rotation, row / LANES, pairs) + row % LANES;
      float *to_x = panel_at(b->x, p, m->hidden) + lane, *to_turn = panel_at(b->rotation, p, pairs) + lane;
      for (int k = 0; k < m->hidden; k++) to_x[k * LANES] = x[k * LANES];
      for (int k = 0; k < pairs; k++) to_turn[k * LANES] = turn[k * LANES];
    }
}

// Heads [count][dim][LANES] in place.
static void rotate_panel(float *x, const float *turn, int count, int dim, int pairs) {
  for (int h = 0; h < count; h++)
    for (int i = 0; i < pairs; i++)
      for (int v = 0; v < LANES; v += VL) {
        float *at = x + ((int64_t)h * dim + 2 * i) * LANES + v;
        vf a = load(at), b = load(at + LANES), c = load(turn + 2 * i * LANES + v), s = load(turn + (2 * i + 1) * LANES + v);
        store(at, a * c - b * s), store(at + LANES, a * s + b * c);
      }
}

// Keys and values [2][kv_heads][dim][LANES] of a panel to the slots of its rows.
static void write_panel_kv(const worker_t *w, const batch_t *b, int p, int layer, const float *kv) {
  const model_t *m = &w->decoder->model;
  const int dim = m->head_dim;
  for (int i = b->begin[p]; i < b->begin[p + 1]; i++) {
    const segment_t *s = &b->segment[i];
    const int64_t *slots = w->decoder->step->sequence[s->sequence].slots;
    for (int lane = s->first; lane < s->last; lane++)
      for (int h = 0; h < m->kv_heads; h++) {
        const int64_t at =
            layer * m->layer_stride + h * m->head_stride + slots[b->length[p * LANES + lane] - 1] * (int64_t)dim;
        const float *key = kv + (int64_t)h * dim * LANES + lane, *value = key + (int64_t)kv_width(m) * LANES;
        for (int k = 0; k < dim; k++) {
          ((float *)m->keys)[at + k] = key[k * LANES];
          ((float *)m->values)[at + k] = value[k * LANES];
        }
      }
  }
}

// Queries, keys and values of a batch, or only queries, or only keys and values; the latter are written.
static void project_panels(worker_t *w, const batch_t *b, int l, int queries, int keys) {
  const model_t *m = &w->decoder->model;
  const layer_t *layer = &m->layer[l];
  const int q = q_width(m), all = q + 2 * kv_width(m), dim = m->head_dim, start = queries ? 0 : q;
  EACH_GROUP(w, b, g) {
    float *x[GROUPED], *normed[GROUPED], *out[GROUPED];
    panels_of(b->x, m->hidden, &g, 0, x);
    panels_of(w->panel_normed, m->hidden, &g, 1, normed);
    panels_of(b->qkv, all, &g, 0, out);
    for (int i = 0; i < g.count; i++) {
      norm_panel(normed[i], x[i], layer->input_norm, m->hidden, m->eps);
      out[i] += (int64_t)start * LANES;
    }
    product(w, &layer->qkv, start, keys ? all : q, g, normed, out);
    for (int i = 0; i < g.count; i++) {
      const float *turn = panel_at(b->rotation, g.panel[i], 2 * m->rotary_pairs);
      float *heads = panel_at(b->qkv, g.panel[i], all);
      if (queries) rotate_panel(heads, turn, m->heads, dim, m->rotary_pairs);
      if (!keys) continue;
      rotate_panel(heads + (int64_t)q * LANES, turn, m->kv_heads, dim, m->rotary_pairs);
      write_panel_kv(w, b, g.panel[i], l, heads + (int64_t)q * LANES);
    }
  }
}

static void attend_panel(worker_t *w, const batch_t *b, int p, int layer, const float *q, float *out) {
  const model_t *m = &w->decoder->model;
  const int group = m->heads / m->kv_heads;
  for (int i = b->begin[p]; i < b->begin[p + 1]; i++) {
    const segment_t *s = &b->segment[i];
    for (int h = 0; h < m->kv_heads; h++) {
      const int64_t base = layer * m->layer_stride + h * m->head_stride, at = (int64_t)h * group * m->head_dim * LANES;
      const stored_t kv = {(const float *)m->keys + base, (const float *)m->values + base,
                           w->decoder->step->sequence[s->sequence].slots, m->head_dim};
      attend_segment(w, &kv, s, b->length + p * LANES, group, q + at, out + at);
    }
  }
}

static void attention_panels(worker_t *w, const batch_t *b, int l) {
  const model_t *m = &w->decoder->model;
  const layer_t *layer = &m->layer[l];
  const int q = q_width(m), all = q + 2 * kv_width(m);
  EACH_GROUP(w, b, g) {
    float *x[GROUPED], *attended[GROUPED], *projected[GROUPED];
    panels_of(b->x, m->hidden, &g, 0, x);
    panels_of(w->panel_attended, q, &g, 1, attended);
    panels_of(w->panel_projected, m->hidden, &g, 1, projected);
    for (int i = 0; i < g.count; i++) attend_panel(w, b, g.panel[i], l, panel_at(b->qkv, g.panel[i], all), attended[i]);
    product(w, &layer->out, 0, m->hidden, g, attended, projected);
    for (int i = 0; i < g.count; i++) add_norm_panel(x[i], projected[i], layer->attended_norm, m->hidden, m->eps);
  }
}

static void feed_forward_panels(worker_t *w, const batch_t *b, int l) {
  const model_t *m = &w->decoder->model;
  const layer_t *layer = &m->layer[l];
  EACH_GROUP(w, b, g) {
    float *x[GROUPED], *normed[GROUPED], *activated[GROUPED], *projected[GROUPED];
    panels_of(b->x, m->hidden, &g, 0, x);
    panels_of(w->panel_normed, m->hidden, &g, 1, normed);
    panels_of(w->panel_activated, m->intermediate, &g, 1, activated);
    panels_of(w->panel_projected, m->hidden, &g, 1, projected);
    for (int i = 0; i < g.count; i++) norm_panel(normed[i], x[i], layer->mlp_norm, m->hidden, m->eps);
    gated_product(w, &layer->gate_up, g, normed, activated);
    product(w, &layer->down, 0, m->hidden, g, activated, projected);
    for (int i = 0; i < g.count; i++) add_norm_panel(x[i], projected[i], layer->mlp_out_norm, m->hidden, m->eps);
  }
}

void PREFILL(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const prefill_t *s = d->step;
  const batch_t *b = &d->all;
  read_rows(w);
  for (int half = s->first; half < s->last; half++) {
    const int l = half / 2, leave = s->wanted >= 0 && l == m->layers - 1;
    if (half % 2) {
      feed_forward_panels(w, b, l);
      continue;
    }
    project_panels(w, b, l, !leave, 1);
    pool_barrier(d);
    if (leave) {  // of the last layer, the other rows' keys and values are all that anyone reads
      b = &d->wanted;
      collect_wanted(w);
      project_panels(w, b, l, 1, 0);
    }
    attention_panels(w, b, l);
  }
  write_rows(w, b);
  pool_barrier(d);
}
