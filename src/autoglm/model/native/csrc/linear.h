// Matrix products with a step's rows: one row or a few read each weight once, straight from memory; many rows become
// the lanes of vectors, and each weight is spread over them.
#include "vectors.h"

#define FEW 4    // rows up to which products go row by row
#define TILE 4   // weight rows at once
#define WIDE 6   // weight rows at once with rows as lanes
#define GROUP 32 // columns with one INT4 scale

INLINE size_t row_bytes(const int type, int cols) {
  return type == F32 ? (size_t)cols * 4 : type == BF16 ? (size_t)cols * 2 : type == INT8 ? (size_t)cols : (size_t)cols / 2;
}

// What the 16 codes of INT4 stand for: closer together near zero, where weights are (the table of llama.cpp's IQ4_NL).
static const float CODES[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Columns part*VL.. of the 32 weights in 16 bytes.
INLINE vf nibbles(const uint8_t *bytes, int part) {
  int offset = (part * VL) % 16, shift = part * VL >= 16 ? 4 : 0;
  vi index = from_uint8(bytes + offset) >> shift;
#if VL == 16
  return __builtin_shuffle(load(CODES), index);  // takes the index modulo 16
#elif VL == 8
  return __builtin_shuffle(load(CODES), load(CODES + 8), index);
#else
  return (vf){CODES[index[0] & 15], CODES[index[1] & 15], CODES[index[2] & 15], CODES[index[3] & 15]};
#endif
}

INLINE void finish(const matrix_t *m, const int type, int r, int count, const float *sums, float *out) {
  for (int i = 0; i < count; i++) {
    float value = sums[i];
    if (type == INT8) value *= ((const float *)m->scales)[r + i];
    out[i] = m->bias ? value + m->bias[r + i] : value;
  }
}

// `count` weight rows from r on, times C rows of x; results at out[c * stride + i].
INLINE void few_tile(const matrix_t *m, const int type, const int C, int r, int count, const float *x, int x_stride,
                     float *out, int stride) {
  const int cols = m->cols;
  const size_t bytes = row_bytes(type, cols);
  const char *base[TILE];
  vf acc[TILE][C];
  for (int i = 0; i < TILE; i++) {
    base[i] = (const char *)m->data + (size_t)(i < count ? r + i : r) * bytes;
    for (int c = 0; c < C; c++) acc[i][c] = (vf){0};
  }
  if (type == INT4) {
    const uint16_t *scales[TILE];
    for (int i = 0; i < TILE; i++) scales[i] = (const uint16_t *)m->scales + (size_t)(i < count ? r + i : r) * (cols / GROUP);
    for (int g = 0; g < cols / GROUP; g++) {
      for (int i = 0; i < TILE; i++) {
        vf part[C];
        for (int c = 0; c < C; c++) part[c] = (vf){0};
#pragma GCC unroll 4
        for (int p = 0; p < GROUP / VL; p++) {
          vf w = nibbles((const uint8_t *)base[i] + g * 16, p);
          for (int c = 0; c < C; c++) part[c] += w * load(x + c * x_stride + g * GROUP + p * VL);
        }
        float scale = bf16(scales[i][g]);
        for (int c = 0; c < C; c++) acc[i][c] += part[c] * scale;
      }
    }
  } else {
    for (int k = 0; k < cols; k += VL) {
      vf in[C];
      for (int c = 0; c < C; c++) in[c] = load(x + c * x_stride + k);
#pragma GCC unroll 4
      for (int i = 0; i < TILE; i++) {
        // The same columns of the rows that come next: where the hardware's own prefetching starts anew each row.
        __builtin_prefetch(base[i] + TILE * bytes + row_bytes(type, k), 0, 3);
        vf w = load_as(type, base[i], k);
        for (int c = 0; c < C; c++) acc[i][c] += w * in[c];
      }
    }
  }
  for (int c = 0; c < C; c++) {
    float sums[4];
    sum4(acc[0][c], acc[1][c], acc[2][c], acc[3][c], sums);
    finish(m, type, r, count, sums, out + c * stride);
  }
}

INLINE void few_rows(const matrix_t *m, const int type, const int C, int r0, int r1, const float *x, int x_stride,
                     float *out, int stride) {
  for (int r = r0; r < r1; r += TILE) few_tile(m, type, C, r, r1 - r < TILE ? r1 - r : TILE, x, x_stride, out + r, stride);
}

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
  vf acc[WIDE][V];
  for (int i = 0; i < WIDE; i++)
    for (int v = 0; v < V; v++) acc[i][v] = (vf){0};
  for (int k = 0; k < cols; k++) {
    vf in[V];
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

INLINE void linear_of(const matrix_t *m, const int type, int rows, int r0, int r1, const float *x, int x_stride, float *out,
                      int stride) {
  if (rows == 1) few_rows(m, type, 1, r0, r1, x, x_stride, out, stride);
  else if (rows == 2) few_rows(m, type, 2, r0, r1, x, x_stride, out, stride);
  else if (rows == 3) few_rows(m, type, 3, r0, r1, x, x_stride, out, stride);
  else few_rows(m, type, FEW, r0, r1, x, x_stride, out, stride);
}

// out[row][r0..r1) = x[row] times weight rows r0..r1, plus bias.
static void linear(worker_t *worker, const matrix_t *m, int rows, int r0, int r1, const float *x, int x_stride, float *out,
                   int stride) {
  if (r0 >= r1 || rows == 0) return;
  if (rows > FEW) {
    many_rows(worker, m, rows, r0, r1, x, x_stride, out, stride);
    return;
  }
  switch (m->type) {
    case F32: linear_of(m, F32, rows, r0, r1, x, x_stride, out, stride); break;
    case BF16: linear_of(m, BF16, rows, r0, r1, x, x_stride, out, stride); break;
    case INT8: linear_of(m, INT8, rows, r0, r1, x, x_stride, out, stride); break;
    default: linear_of(m, INT4, rows, r0, r1, x, x_stride, out, stride);
  }
}
