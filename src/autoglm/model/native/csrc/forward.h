// One step through all layers, run by every thread of a decoder. A product is cut by weight rows, attention by (row, KV
// head); norms and residuals are done by each thread for itself, which is cheaper than waiting for another's.
#include "attention.h"

typedef struct {
  int first, last;
} span_t;

// This thread's share of `count`, in steps of `unit`.
static span_t share(const worker_t *w, int count, int unit) {
  int threads = w->decoder->model.threads, units = (count + unit - 1) / unit;
  int first = (int)((int64_t)units * w->index / threads) * unit, last = (int)((int64_t)units * (w->index + 1) / threads) * unit;
  return (span_t){first < count ? first : count, last < count ? last : count};
}

// Heads of a group that one thread takes: all, or fewer when there are too few (row, KV head) pairs to go round.
static int heads_at_once(int pairs, int group, int threads) {
  int take = group;
  while (take > 1 && pairs * (group / take) < threads) {
    do take--;
    while (group % take);
  }
  return take;
}

static void share_linear(worker_t *w, const matrix_t *m, int rows, const float *x, int x_stride, float *out) {
  span_t s = share(w, m->rows, TILE);
  linear(w, m, rows, s.first, s.last, x, x_stride, out, m->rows);
}

// Add up the ranks' parts of what all threads have made; a step whose sum failed runs to its end without.
static void sum_ranks(worker_t *w, float *data, int count) {
  decoder_t *d = w->decoder;
  if (!d->model.sum) return;
  if (w->index == 0 && count && !d->failed) d->failed = d->model.sum(d->model.group, data, (uint64_t)count, 0);
  pool_barrier(d);
}

static void norm_rows(worker_t *w, const float *weight, int rows) {
  const model_t *m = &w->decoder->model;
  for (int r = 0; r < rows; r++) rms_norm(w->normed + r * m->hidden, w->x + r * m->hidden, weight, m->hidden, m->eps);
}

// x += norm(projected)
static void add_normed(worker_t *w, const float *weight, int rows) {
  const model_t *m = &w->decoder->model;
  for (int r = 0; r < rows; r++) {
    float *x = w->x + r * m->hidden;
    const float *y = w->decoder->projected + r * m->hidden;
    float scale = 1.0f / sqrtf(dot(F32, y, y, m->hidden) / (float)m->hidden + m->eps);
    for (int i = 0; i < m->hidden; i++) x[i] += y[i] * scale * weight[i];
  }
}

// A row of the embedding is on one rank; the others add zeros.
static void spread_embedding(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  span_t s = share(w, d->row_count, 1);
  for (int r = s.first; r < s.last; r++) {
    float *x = d->projected + (int64_t)r * m->hidden;
    int row = d->rows[r].token - m->embed_first;
    if (row >= 0 && row < m->embed.rows) widen(&m->embed, row, x);
    else memset(x, 0, (size_t)m->hidden * 4);
  }
  pool_barrier(d);
  sum_ranks(w, d->projected, d->row_count * m->hidden);
  memcpy(w->x, d->projected, (size_t)d->row_count * (size_t)m->hidden * 4);
}

static void begin_rows(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  if (!m->embed.data) memcpy(w->x, d->before, (size_t)d->row_count * (size_t)m->hidden * 4);
  else if (m->sum) spread_embedding(w);
  else
    for (int r = 0; r < d->row_count; r++) widen(&m->embed, d->rows[r].token, w->x + (int64_t)r * m->hidden);
  span_t s = share(w, d->row_count, 1);
  for (int r = s.first; r < s.last; r++)
    for (int i = 0; i < m->rotary_pairs; i++) {
      float angle = (float)d->rows[r].position[m->rotary_axis[i]] * m->inv_freq[i];
      d->rotation[(r * m->rotary_pairs + i) * 2] = cosf(angle);
      d->rotation[(r * m->rotary_pairs + i) * 2 + 1] = sinf(angle);
    }
}

static int slot_of(const model_t *m, const row_t *row, int position) {
  return row->blocks[position / m->block_size] * m->block_size + position % m->block_size;
}

INLINE void write_kv(const int type, void *cache, int64_t at, const float *x, int n) {
  if (type == F32) {
    memcpy((float *)cache + at, x, (size_t)n * 4);
    return;
  }
  for (int i = 0; i < n; i++) {  // to the nearest, ties to even, as torch does
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    ((uint16_t *)cache)[at + i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

// Rotate queries and keys; put keys and values where the block tables say.
static void rotate_and_write(worker_t *w, int layer) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int heads = m->heads + m->kv_heads, dim = m->head_dim, width = (heads + m->kv_heads) * dim;
  span_t s = share(w, d->row_count * heads, 1);
  for (int unit = s.first; unit < s.last; unit++) {
    int r = unit / heads, h = unit % heads;
    float *x = d->qkv + (int64_t)r * width + h * dim;
    const float *turn = d->rotation + (int64_t)r * m->rotary_pairs * 2;
    for (int i = 0; i < m->rotary_pairs; i++) {
      float a = x[2 * i], b = x[2 * i + 1], c = turn[2 * i], sn = turn[2 * i + 1];
      x[2 * i] = a * c - b * sn;
      x[2 * i + 1] = a * sn + b * c;
    }
    if (h >= m->heads) {
      const row_t *row = &d->rows[r];
      int64_t at = layer * m->layer_stride + (h - m->heads) * m->head_stride + (int64_t)slot_of(m, row, row->length - 1) * dim;
      const float *value = x + m->kv_heads * dim;
      if (m->kv_type == F32) write_kv(F32, m->keys, at, x, dim), write_kv(F32, m->values, at, value, dim);
      else write_kv(BF16, m->keys, at, x, dim), write_kv(BF16, m->values, at, value, dim);
    }
  }
}

static void self_attention(worker_t *w, int layer) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int dim = m->head_dim, group = m->heads / m->kv_heads, width = (m->heads + 2 * m->kv_heads) * dim;
  const size_t item = m->kv_type == F32 ? 4 : 2;
  const int take = heads_at_once(d->row_count * m->kv_heads, group, m->threads), parts = group / take;
  span_t s = share(w, d->row_count * m->kv_heads * parts, 1);
  for (int unit = s.first; unit < s.last; unit++) {
    int r = unit / (m->kv_heads * parts), kv = unit / parts % m->kv_heads, head = kv * group + unit % parts * take;
    const row_t *row = &d->rows[r];
    int64_t base = layer * m->layer_stride + kv * m->head_stride;
    int pieces = 0, next = -1;
    for (int done = 0; done < row->length; done += m->block_size) {
      int slot = row->blocks[done / m->block_size] * m->block_size;
      int count = row->length - done < m->block_size ? row->length - done : m->block_size;
      if (slot == next) {
        w->pieces[pieces - 1].count += count;
      } else {
        size_t offset = (size_t)(base + (int64_t)slot * dim) * item;
        w->pieces[pieces++] = (piece_t){(const char *)m->keys + offset, (const char *)m->values + offset, NULL, count};
      }
      next = slot + count;
    }
    const float *q = d->qkv + (int64_t)r * width + head * dim;
    float *out = d->attended + (int64_t)r * m->heads * dim + head * dim;
    if (m->kv_type == F32) attend(F32, q, take, dim, w->pieces, pieces, w->scores, m->max_tokens, out);
    else attend(BF16, q, take, dim, w->pieces, pieces, w->scores, m->max_tokens, out);
  }
}

static float log_sigmoid(float x) { return (x < 0 ? x : 0) - log1pf(expf(-fabsf(x))); }

// The gate's query of each row that sees images.
static void gate_queries(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  if (m->queries_before) {
    const float *queries = d->before + (int64_t)d->row_count * m->hidden;
    if (w->index == 0) memcpy(d->gate_q, queries, (size_t)d->seeing_count * (size_t)m->gate_rank * 4);
    pool_barrier(d);
    return;
  }
  for (int i = 0; i < d->seeing_count; i++)
    memcpy(w->normed + (int64_t)i * m->hidden, w->x + (int64_t)d->seeing[i] * m->hidden, (size_t)m->hidden * 4);
  if (m->sum) {
    if (w->index == 0) memset(d->gate_q, 0, (size_t)d->seeing_count * (size_t)m->gate_rank * 4);
    pool_barrier(d);
  }
  span_t own = share(w, m->gate_text.rows, TILE);
  linear(w, &m->gate_text, d->seeing_count, own.first, own.last, w->normed, m->hidden, d->gate_q + m->gate_first, m->gate_rank);
  pool_barrier(d);
  sum_ranks(w, d->gate_q, d->seeing_count * m->gate_rank);
}

// log M of each row that sees images, for all modules of the step.
static void time_gate(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  gate_queries(w);
  float factor = m->gate_scale / sqrtf((float)m->gate_rank), query[m->gate_rank];
  for (int i = 0; i < d->seeing_count; i++) {
    const row_t *row = &d->rows[d->seeing[i]];
    float *mask = d->log_mask + (int64_t)i * m->max_tokens;
    rms_norm(query, d->gate_q + (int64_t)i * m->gate_rank, m->gate_norm, m->gate_rank, m->eps);
    for (int j = 0; j < row->images; mask += row->image[j++]->tokens) {
      const image_t *image = row->image[j];
      span_t s = share(w, image->tokens, 1);
      for (int t = s.first; t < s.last; t++) {
        int64_t at = (int64_t)t * m->gate_rank;
        float like = m->kv_type == F32 ? dot(F32, query, (const float *)image->gate_keys + at, m->gate_rank)
                                       : dot(BF16, query, (const uint16_t *)image->gate_keys + at, m->gate_rank);
        mask[t] = log_sigmoid(factor * like + m->gate_bias);
      }
    }
  }
  pool_barrier(d);
}

static void cross_attention(worker_t *w, const layer_t *layer) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int dim = m->cross_head_dim, group = m->cross_heads / m->cross_kv_heads, width = m->cross_heads * dim;
  const int seeing = d->seeing_count;
  for (int i = 0; i < seeing; i++)
    rms_norm(w->normed + (int64_t)i * m->hidden, w->x + (int64_t)d->seeing[i] * m->hidden, layer->cross_norm, m->hidden, m->eps);
  share_linear(w, &layer->cross_q, seeing, w->normed, m->hidden, d->cross_q);
  pool_barrier(d);
  const int take = heads_at_once(seeing * m->cross_kv_heads, group, m->threads), parts = group / take;
  const size_t item = m->kv_type == F32 ? 4 : 2;
  span_t s = share(w, seeing * m->cross_kv_heads * parts, 1);
  for (int unit = s.first; unit < s.last; unit++) {
    int i = unit / (m->cross_kv_heads * parts), kv = unit / parts % m->cross_kv_heads, head = kv * group + unit % parts * take;
    const row_t *row = &d->rows[d->seeing[i]];
    float *q = d->cross_q + (int64_t)i * width + head * dim;
    for (int h = 0; h < take; h++) rms_norm(q + h * dim, q + h * dim, layer->cross_q_norm, dim, m->eps);
    const float *mask = d->log_mask + (int64_t)i * m->max_tokens;
    for (int j = 0; j < row->images; mask += row->image[j++]->tokens) {
      const image_t *image = row->image[j];
      size_t offset = (size_t)kv * (size_t)image->tokens * (size_t)dim * item;
      w->pieces[j] = (piece_t){(const char *)image->keys[layer->module] + offset,
                               (const char *)image->values[layer->module] + offset, mask, image->tokens};
    }
    float *out = d->attended + (int64_t)i * width + head * dim;
    if (m->kv_type == F32) attend(F32, q, take, dim, w->pieces, row->images, w->scores, m->max_tokens, out);
    else attend(BF16, q, take, dim, w->pieces, row->images, w->scores, m->max_tokens, out);
  }
  pool_barrier(d);
  share_linear(w, &layer->cross_out, seeing, d->attended, width, d->projected);
  pool_barrier(d);
  sum_ranks(w, d->projected, seeing * m->hidden);
  for (int i = 0; i < seeing; i++)
    for (int k = 0; k < m->hidden; k++)
      w->x[(int64_t)d->seeing[i] * m->hidden + k] += layer->gate * d->projected[(int64_t)i * m->hidden + k];
}

static void feed_forward(worker_t *w, const layer_t *layer, int rows) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  const int width = m->intermediate;
  norm_rows(w, layer->mlp_norm, rows);
  span_t s = share(w, width, VL);
  // Gate and up of the same columns by the same thread: what it multiplies, it has made.
  linear(w, &layer->gate_up, rows, s.first, s.last, w->normed, m->hidden, d->activated, 2 * width);
  linear(w, &layer->gate_up, rows, width + s.first, width + s.last, w->normed, m->hidden, d->activated, 2 * width);
  for (int r = 0; r < rows; r++) {
    float *gate = d->activated + (int64_t)r * 2 * width, *up = gate + width;
    for (int i = s.first; i < s.last; i += VL) {
      vf g = load(gate + i);
      store(gate + i, g / (exp_of(-g) + 1.0f) * load(up + i));
    }
  }
  pool_barrier(d);
  share_linear(w, &layer->down, rows, d->activated, 2 * width, d->projected);
  pool_barrier(d);
  sum_ranks(w, d->projected, rows * m->hidden);
  add_normed(w, layer->mlp_out_norm, rows);
}

// Rows without a wanted result leave before the last feed-forward.
static int keep_wanted(worker_t *w, int rows) {
  const model_t *m = &w->decoder->model;
  int kept = 0;
  for (int r = 0; r < rows; r++) {
    if (!w->decoder->rows[r].wanted) continue;
    if (kept != r) memcpy(w->x + (int64_t)kept * m->hidden, w->x + (int64_t)r * m->hidden, (size_t)m->hidden * 4);
    kept++;
  }
  return kept;
}

// What the next stage begins with.
static void give_rows(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  if (w->index) return;
  const size_t count = (size_t)d->row_count * (size_t)m->hidden;
  memcpy(d->out, w->x, count * 4);
  if (m->queries_after) memcpy(d->out + count, d->gate_q, (size_t)d->seeing_count * (size_t)m->gate_rank * 4);
}

void FORWARD(worker_t *w) {
  decoder_t *d = w->decoder;
  const model_t *m = &d->model;
  int rows = d->row_count;
  begin_rows(w);
  for (int l = 0; l < m->layers; l++) {
    const layer_t *layer = &m->layer[l];
    if (l == m->first_fusion && d->seeing_count) time_gate(w);
    norm_rows(w, layer->input_norm, rows);
    share_linear(w, &layer->qkv, rows, w->normed, m->hidden, d->qkv);
    pool_barrier(d);
    rotate_and_write(w, l);
    pool_barrier(d);
    self_attention(w, l);
    pool_barrier(d);
    share_linear(w, &layer->out, rows, d->attended, m->heads * m->head_dim, d->projected);
    pool_barrier(d);
    sum_ranks(w, d->projected, rows * m->hidden);
    add_normed(w, layer->attended_norm, rows);
    if (layer->module >= 0 && d->seeing_count) cross_attention(w, layer);
    if (l == m->layers - 1 && m->head.data) rows = keep_wanted(w, rows);
    feed_forward(w, layer, rows);
  }
  if (m->head.data) {
    norm_rows(w, m->final_norm, rows);
    share_linear(w, &m->head, rows, w->normed, m->hidden, d->out);
  } else give_rows(w);
  pool_barrier(d);
}

void WIDEN(const matrix_t *m, float *out) {
  for (int r = 0; r < m->rows; r++) widen(m, r, out + (int64_t)r * m->cols);
}
