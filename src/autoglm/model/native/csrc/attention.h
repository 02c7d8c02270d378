// Attention of one row over keys in pieces: the blocks of a sequence, or the visual tokens of images.
#include "linear.h"

// scores[g * stride + t] = <q[g], keys[t]> * scale + mask[t]
INLINE void piece_scores(const int type, const float *q, int group, int dim, const piece_t *p, float scale, float *scores,
                         int stride) {
  for (int g = 0; g < group; g++) {
    const float *query = q + g * dim;
    float *out = scores + (int64_t)g * stride;
    int t = 0;
    for (; t + 4 <= p->count; t += 4) {
      vf acc[4] = {{0}, {0}, {0}, {0}};
      for (int k = 0; k < dim; k += VL) {
        vf part = load(query + k);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) acc[i] += part * load_as(type, p->keys, (int64_t)(t + i) * dim + k);
      }
      float sums[4];
      sum4(acc[0], acc[1], acc[2], acc[3], sums);
      for (int i = 0; i < 4; i++) out[t + i] = sums[i] * scale;
    }
    for (; t < p->count; t++) {
      const char *key = (const char *)p->keys + row_bytes(type, dim) * (size_t)t;
      out[t] = dot(type, query, key, dim) * scale;
    }
    if (p->mask)
      for (t = 0; t < p->count; t++) out[t] += p->mask[t];
  }
}

// Weights that sum to one; the sum's inverse is returned, not applied.
INLINE float soften(float *scores, int count) {
  int t = 0;
  vf top = splat(-INFINITY);
  for (; t + VL <= count; t += VL) top = max_of(top, load(scores + t));
  float best = largest(top);
  for (; t < count; t++) best = scores[t] > best ? scores[t] : best;
  vf total = {0};
  for (t = 0; t + VL <= count; t += VL) {
    vf e = exp_of(load(scores + t) - best);
    store(scores + t, e);
    total += e;
  }
  float rest = sum(total);
  for (; t < count; t++) rest += scores[t] = expf(scores[t] - best);
  return 1.0f / rest;
}

// out[g] += sum of weights[g][t] * values[t]
INLINE void piece_values(const int type, const float *weights, int stride, int group, int dim, const piece_t *p, float *out) {
  for (int g = 0; g < group; g++) {
    const float *weight = weights + (int64_t)g * stride;
    for (int k = 0; k < dim; k += 2 * VL) {
      const int two = k + 2 * VL <= dim;
      vf low = load(out + g * dim + k), low2 = {0}, high = two ? load(out + g * dim + k + VL) : (vf){0}, high2 = {0};
      int t = 0;
      for (; t + 2 <= p->count; t += 2) {
        low += weight[t] * load_as(type, p->values, (int64_t)t * dim + k);
        low2 += weight[t + 1] * load_as(type, p->values, (int64_t)(t + 1) * dim + k);
        if (two) high += weight[t] * load_as(type, p->values, (int64_t)t * dim + k + VL);
        if (two) high2 += weight[t + 1] * load_as(type, p->values, (int64_t)(t + 1) * dim + k + VL);
      }
      if (t < p->count) {
        low += weight[t] * load_as(type, p->values, (int64_t)t * dim + k);
        if (two) high += weight[t] * load_as(type, p->values, (int64_t)t * dim + k + VL);
      }
      store(out + g * dim + k, low + low2);
      if (two) store(out + g * dim + k + VL, high + high2);
    }
  }
}

// `group` query heads over all pieces; out: [group][dim].
INLINE void attend(const int type, const float *q, int group, int dim, const piece_t *pieces, int count, float *scores,
                   int stride, float *out) {
  int total = 0;
  float scale = 1.0f / sqrtf((float)dim);
  for (int i = 0; i < count; i++) {
    piece_scores(type, q, group, dim, &pieces[i], scale, scores + total, stride);
    total += pieces[i].count;
  }
  float inverse[group];
  for (int g = 0; g < group; g++) inverse[g] = soften(scores + (int64_t)g * stride, total);
  memset(out, 0, sizeof(float) * (size_t)(group * dim));
  int begin = 0;
  for (int i = 0; i < count; i++) {
    piece_values(type, scores + begin, stride, group, dim, &pieces[i], out);
    begin += pieces[i].count;
  }
  for (int g = 0; g < group; g++)
    for (int k = 0; k < dim; k++) out[g * dim + k] *= inverse[g];
}
