// Matrix products with a step's rows: packed weights on whole numbers where the machine can (integer.h); else a few rows
// with each weight read once (rows.h); many rows become the lanes of vectors, and each weight is spread over them.
#include "rows.h"
#ifdef INTEGER
#include "integer.h"
#endif

#define WIDE 6  // weight rows at once with rows as lanes

INLINE void widen_as(const matrix_t *m, const int type, int r, float *out) {
  const char *base = (const char *)m->data + (size_t)r * row_bytes(type, m->cols);
  if (type == INT4) {
    const uint16_t *scales = (const uint16_t *)m->scales + (size_t)r * (m->cols / GROUP);
    for (int g = 0; g < m->cols / GROUP; g++)
      for (int p = 0; p < GROUP / VL; p++)
        store(out + g * GROUP + p * VL, nibbles((const uint8_t *)base + g * 16, p) * bf16(scales[g]));
    return;
  }
  float scale = type == INT8 ? ((const float *)m->scales)[r] : 1.0f;
  for (int k = 0; k < m->cols; k += VL) store(out + k, load_as(type, base, k) * scale);
}

// One weight row as f32.
static void widen(const matrix_t *m, int r, float *out) {
  if (m->type == INT4) widen_as(m, INT4, r, out);
  else if (m->type == INT8) widen_as(m, INT8, r, out);
  else if (m->type == BF16) widen_as(m, BF16, r, out);
  else widen_as(m, F32, r, out);
}

// WIDE weight rows times V vectors of rows; turned: [cols][ld], rows as lanes.
INLINE void wide_tile(const float *const *w, const int V, int cols, const float *turned, int ld, float sums[][VL]) {
  vf acc[WIDE][4];
  for (int i = 0; i < WIDE; i++)
    for (int v = 0; v < V; v++) acc[i][v] = (vf){0};
  for (int k = 0; k < cols; k++) {
    if (k % 16 == 0)
      for (int i = 0; i < WIDE; i++) __builtin_prefetch(w[i] + (int64_t)WIDE * cols + k, 0, 2);
    vf in[4];
    for (int v = 0; v < V; v++) in[v] = load(turned + (int64_t)k * ld + v * VL);
#pragma GCC unroll 6
    for (int i = 0; i < WIDE; i++) {
      vf spread = splat(w[i][k]);
      for (int v = 0; v < V; v++) acc[i][v] += spread * in[v];
    }
  }
  for (int i = 0; i < WIDE; i++)
    for (int v = 0; v < V; v++) store(sums[i * V + v], acc[i][v]);
}

static void many_rows(worker_t *worker, const matrix_t *m, int rows, int r0, int r1, const float *x, int x_stride,
                      float *out, int stride) {
  const int cols = m->cols, ld = (rows + VL - 1) / VL * VL;
  float *turned = worker->turned;
  for (int k = 0; k < cols; k++) {
    float *lane = turned + (int64_t)k * ld;
    for (int c = 0; c < rows; c++) lane[c] = x[(int64_t)c * x_stride + k];
    for (int c = rows; c < ld; c++) lane[c] = 0;
  }
  for (int r = r0; r < r1; r += WIDE) {
    int count = r1 - r < WIDE ? r1 - r : WIDE;
    const float *w[WIDE];
    for (int i = 0; i < WIDE; i++) {
      int row = i < count ? r + i : r;
      w[i] = (const float *)m->data + (size_t)row * cols;
      if (m->type != F32) {
        w[i] = worker->weights + (int64_t)(i < count ? i : 0) * cols;
        if (i < count) widen(m, row, worker->weights + (int64_t)i * cols);
      }
    }
    for (int first = 0; first < ld;) {
      float sums[WIDE * 4][VL];
      int left = (ld - first) / VL, V = left >= 4 ? 4 : left;
      if (V == 4) wide_tile(w, 4, cols, turned + first, ld, sums);
      else if (V == 3) wide_tile(w, 3, cols, turned + first, ld, sums);
      else if (V == 2) wide_tile(w, 2, cols, turned + first, ld, sums);
      else wide_tile(w, 1, cols, turned + first, ld, sums);
      for (int c = first; c < rows && c < first + V * VL; c++)
        for (int i = 0; i < count; i++) {
          float value = sums[i * V + (c - first) / VL][(c - first) % VL];
          out[(int64_t)c * stride + r + i] = m->bias ? value + m->bias[r + i] : value;
        }
      first += V * VL;
    }
  }
}

// out[row][r0..r1) = x[row] times weight rows r0..r1, plus bias.
static void linear(worker_t *worker, const matrix_t *m, int rows, int r0, int r1, const float *x, int x_stride, float *out,
                   int stride) {
  if (r0 >= r1 || rows == 0) return;
#ifdef INTEGER
  if (m->type >= INT8 && worker->decoder->model.integer_products) {
    integer_rows(worker, m, rows, r0, r1, x, x_stride, out, stride);
    return;
  }
#endif
  if (rows <= FEW) few_rows(worker, m, rows, r0, r1, x, x_stride, out, stride);
  else many_rows(worker, m, rows, r0, r1, x, x_stride, out, stride);
}
