// Attention of a panel: its lanes are queries, keys and values are read where they lie, KEYS at a time. Weights are relative
// to the largest score so far, and what was summed is scaled down when a larger one comes (Milakov & Gimelshein 2018).

#define ACROSS (SPREAD * 2 / 3)  // features of a value that a tile sums; divides the 16 that widths are multiples of
#define SHORT 4                  // lanes of one sequence below which they attend one by one

// Keys of one KV head at the slots of a sequence's tokens.
typedef struct {
  const float *keys, *values;
  const int64_t *slots;
  int dim;
} stored_t;

// scores[t][lane] of `count` keys from `from` on.
static void key_scores(worker_t *w, const stored_t *kv, int from, int count, int vectors, const float *q, float *scores) {
  float sums[SPREAD * LANES] __attribute__((aligned(64)));
  const int dim = kv->dim;
  const float scale = 1.0f / sqrtf((float)dim);
  for (int t = 0; t < count; t += SPREAD) {
    const int some = count - t < SPREAD ? count - t : SPREAD;
    const int64_t *slots = kv->slots + from + t;
    const float *keys = kv->keys + slots[0] * dim;
    if (some < SPREAD || slots[SPREAD - 1] != slots[0] + SPREAD - 1) {
      for (int i = 0; i < some; i++) memcpy(w->panel_keys + i * dim, kv->keys + slots[i] * dim, (size_t)dim * 4);
      keys = w->panel_keys;
    }
    const float *high = keys + SPREAD / 2 * dim;
    const tile_t one = {keys, high, keys, high, dim};
    tile(vectors, &one, dim, q, sums);
    for (int i = 0; i < some; i++)
      for (int v = 0; v < vectors; v++)
        store(scores + (t + i) * LANES + v * VL, load(sums + i * LANES + v * VL) * scale);
  }
}

// mixed[d][lane] = mixed * keep[lane] + sum of weights[t][lane] * values[t][d], for ACROSS features.
INLINE void value_tile(const int V, const stored_t *kv, int from, int count, const float *weights, const vf *keep, int d,
                       float *mixed) {
  vf acc[ACROSS][2];
#pragma GCC unroll 8
  for (int i = 0; i < ACROSS; i++)
    for (int v = 0; v < V; v++) acc[i][v] = load(mixed + i * LANES + v * VL) * keep[v];
  for (int t = 0; t < count; t++) {
    const float *value = kv->values + kv->slots[from + t] * kv->dim + d;
    vf first = load(weights + t * LANES), second = V > 1 ? load(weights + t * LANES + VL) : first;
#pragma GCC unroll 8
    for (int i = 0; i < ACROSS; i++) {
      vf one = splat(value[i]);
      acc[i][0] += one * first;
      if (V > 1) acc[i][1] += one * second;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ACROSS; i++)
    for (int v = 0; v < V; v++) store(mixed + i * LANES + v * VL, acc[i][v]);
}

static __attribute__((noinline)) void add_values(int vectors, const stored_t *kv, int from, int count, const float *weights,
                                                 const vf *keep, float *mixed) {
  for (int d = 0; d < kv->dim; d += ACROSS) {
    if (vectors > 1) value_tile(2, kv, from, count, weights, keep, d, mixed + d * LANES);
    else value_tile(1, kv, from, count, weights, keep, d, mixed + d * LANES);
  }
}

// Scores of keys from `from` on to weights; the lanes' new largest score, and what that leaves of earlier sums in `keep`.
// seen: keys that each lane sees, `fewest` at least.
INLINE void soften_lanes(float *scores, int from, int count, const vi seen, int fewest, vf *top, vf *total, vf *keep) {
  vf best = *top;
  int first = 0;  // that some lane does not see
  for (; first < count && from + first < fewest; first++) best = max_of(best, load(scores + first * LANES));
  for (int t = first; t < count; t++) {
    float *at = scores + t * LANES;
    vf score = pick(seen > from + t, load(at), splat(-INFINITY));
    store(at, score);
    best = max_of(best, score);
  }
  *keep = exp_of(*top - best);
  vf sum = {0};
  for (int t = 0; t < count; t++) {
    vf e = exp_of(load(scores + t * LANES) - best);
    store(scores + t * LANES, e);
    sum += e;
  }
  *total = *total * *keep + sum;
  *top = best;
}

// One query head of the lanes of a segment. q, out: [dim][LANES], at the segment's first vector; length: of its lanes.
static void attend_lanes(worker_t *w, const stored_t *kv, int vectors, const int32_t *length, int most, const float *q) {
  int fewest = most;
  for (int i = 0; i < vectors * VL; i++) fewest = length[i] < fewest ? length[i] : fewest;
  vf top[2], total[2] = {{0}, {0}}, keep[2];
  top[0] = top[1] = splat(-1e30f);  // a number: the first difference to it must be one
  float *scores = w->panel_scores, *mixed = w->panel_mixed;
  memset(mixed, 0, (size_t)kv->dim * LANES * 4);
  for (int from = 0; from < most; from += KEYS) {
    const int count = most - from < KEYS ? most - from : KEYS;
    key_scores(w, kv, from, count, vectors, q, scores);
    for (int v = 0; v < vectors; v++) {
      vi seen;
      memcpy(&seen, length + v * VL, sizeof seen);
      soften_lanes(scores + v * VL, from, count, seen, fewest, &top[v], &total[v], &keep[v]);
    }
    add_values(vectors, kv, from, count, scores, keep, mixed);
  }
  for (int v = 0; v < vectors; v++) {
    vf inverse = 1.0f / total[v];
    for (int k = 0; k < kv->dim; k++) {
      float *at = mixed + k * LANES + v * VL;
      store(at, load(at) * inverse);
    }
  }
}

// Runs of slots side by side; 0: more of them than there is room for.
static int runs_of(worker_t *w, const stored_t *kv, int length) {
  const model_t *m = &w->decoder->model;
  int pieces = 0, most = m->max_tokens / m->block_size + 2;
  for (int t = 0; t < length; t++) {
    int64_t at = kv->slots[t] * kv->dim;
    if (t && kv->slots[t] == kv->slots[t - 1] + 1) w->pieces[pieces - 1].count++;
    else if (pieces == most) return 0;
    else w->pieces[pieces++] = (piece_t){kv->keys + at, kv->values + at, NULL, 1};
  }
  return pieces;
}

// One lane and KV head, as a step of decoding does it; 0: not possible.
static int attend_alone(worker_t *w, const stored_t *kv, int lane, int length, int group, const float *q, float *out) {
  const int pieces = runs_of(w, kv, length), n = group * kv->dim;
  float *query = w->panel_row, *found = query + n;
  if (!pieces) return 0;
  for (int k = 0; k < n; k++) query[k] = q[k * LANES + lane];
  attend(F32, query, group, kv->dim, w->pieces, pieces, w->scores, w->decoder->model.max_tokens, found);
  for (int k = 0; k < n; k++) out[k * LANES + lane] = found[k];
  return 1;
}

// One segment of a panel and one KV head; q, out: [group][dim][LANES].
static void attend_segment(worker_t *w, const stored_t *kv, const segment_t *s, const int32_t *length, int group,
                           const float *q, float *out) {
  int lane = s->first;
  if (s->last - s->first < SHORT && !w->decoder->model.whole)
    while (lane < s->last && attend_alone(w, kv, lane, length[lane], group, q, out)) lane++;
  if (lane == s->last) return;
  const int start = lane / VL * VL, vectors = (s->last + VL - 1) / VL - start / VL, most = length[s->last - 1];
  int32_t seen[LANES];  // other sequences' lanes are computed, too, and left: to the end, so that they stay numbers
  for (int i = 0; i < LANES; i++) seen[i] = start + i >= s->first && start + i < s->last ? length[start + i] : most;
  for (int h = 0; h < group; h++) {
    const int64_t at = (int64_t)h * kv->dim * LANES;
    attend_lanes(w, kv, vectors, seen, most, q + at + start);
    for (int k = 0; k < kv->dim; k++)
      memcpy(out + at + k * LANES + lane, w->panel_mixed + k * LANES + lane - start, (size_t)(s->last - lane) * 4);
  }
}
