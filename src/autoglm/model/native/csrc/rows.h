// Products with a few rows. For one row, weights are read in the order of their addresses: one stream is what the hardware
// prefetches best (four side by side reach half the bandwidth of one). For more, arithmetic is the limit, and several weight
// rows at once save loads of what they meet; those that come next are asked for meanwhile, since the hardware does not
// foresee them.
#include "vectors.h"

#define TILE 4     // weight rows whose sums are reduced together, and which packed weights lie side by side for
#define BLOCK 128  // columns of a packed row that lie together
#define GROUP 32   // columns with one INT4 scale
#define LONG 4096  // columns of a row of x that takes half of the first cache
#if VL == 16
#define TOGETHER 4  // rows that share a weight in registers
#else
#define TOGETHER 2
#endif

INLINE size_t row_bytes(const int type, int cols) {
  return type == F32 ? (size_t)cols * 4 : type == BF16 ? (size_t)cols * 2 : type == INT8 ? (size_t)cols : (size_t)cols / 2;
}

// Columns of block b.
INLINE int block_width(const matrix_t *m, int b) { return m->cols - b * BLOCK < BLOCK ? m->cols - b * BLOCK : BLOCK; }

// Where block b of row r begins, if a row has `row` units, and a whole block `block` of them, of which this has `own`.
INLINE size_t block_place(const matrix_t *m, int r, int b, int row, int block, int own) {
  const int first = r / TILE * TILE, rows = m->rows - first < TILE ? m->rows - first : TILE;
  return (size_t)first * (size_t)row + (size_t)b * (size_t)(block * rows) + (size_t)(r - first) * (size_t)own;
}

// A packed row's block b; the next row's of the tile lies behind it.
INLINE const char *block_codes(const matrix_t *m, const int type, int r, int b, int width) {
  const int half = type == INT4;
  return (const char *)m->data + block_place(m, r, b, m->cols >> half, BLOCK >> half, width >> half);
}

INLINE const uint16_t *block_scales(const matrix_t *m, int r, int b, int width) {
  return (const uint16_t *)m->scales + block_place(m, r, b, m->cols / GROUP, BLOCK / GROUP, width / GROUP);
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

INLINE void finish(const matrix_t *m, int r, int count, const float *sums, float *out) {
  for (int i = 0; i < count; i++) {
    float value = sums[i];
    if (m->type == INT8) value *= ((const float *)m->scales)[r + i];
    out[i] = m->bias ? value + m->bias[r + i] : value;
  }
}

// Sums of a tile's lanes to out[c * stride + i].
INLINE void reduce(const matrix_t *m, const int C, int r, int count, vf acc[][TOGETHER], float *out, int stride) {
  for (int i = count; i < TILE; i++)
    for (int c = 0; c < C; c++) acc[i][c] = (vf){0};
  for (int c = 0; c < C; c++) {
    float sums[4];
    sum4(acc[0][c], acc[1][c], acc[2][c], acc[3][c], sums);
    finish(m, r, count, sums, out + c * stride);
  }
}

// Rows that share a weight lie side by side, vector by vector: [cols / VL][C][VL].
INLINE void interleave(const float *x, int x_stride, int C, int cols, float *out) {
  for (int k = 0; k < cols; k += VL)
    for (int c = 0; c < C; c++) store(out + (int64_t)k * C + c * VL, load(x + (int64_t)c * x_stride + k));
}

// even[i][c] += block b of INT4 row r + i, times that of x[c].
INLINE void int4_times(const matrix_t *m, const int R, const int C, int r, int b, const float *x, vf even[][TOGETHER]) {
  const int width = block_width(m, b), groups = width / GROUP;
  const uint8_t *codes = (const uint8_t *)block_codes(m, INT4, r, b, width);
  const uint16_t *scales = block_scales(m, r, b, width);
  for (int g = 0; g < groups; g++, x += GROUP * C) {
    vf part[2][TOGETHER];
    for (int i = 0; i < R; i++)
      for (int c = 0; c < C; c++) part[i][c] = (vf){0};
#pragma GCC unroll 8
    for (int p = 0; p < GROUP / VL; p++)
#pragma GCC unroll 2
      for (int i = 0; i < R; i++) {
        vf w = nibbles(codes + i * (width / 2) + g * 16, p);
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) part[i][c] += w * load(x + p * VL * C + c * VL);
      }
#pragma GCC unroll 2
    for (int i = 0; i < R; i++) {
      float scale = bf16(scales[i * groups + g]);
#pragma GCC unroll 4
      for (int c = 0; c < C; c++) even[i][c] += part[i][c] * scale;
    }
  }
}

// even[i][c], odd[i][c] += `cols` columns, a multiple of VL, of R rows `step` bytes apart, times x[c].
INLINE void columns_times(const int type, const int R, const int C, const char *rows, size_t step, int cols, const float *x,
                          vf even[][TOGETHER], vf odd[][TOGETHER]) {
  int k = 0;
  for (; k + 2 * VL <= cols; k += 2 * VL) {
    vf low[2], high[2];
    for (int i = 0; i < R; i++) {
      low[i] = load_as(type, rows + (size_t)i * step, k);
      high[i] = load_as(type, rows + (size_t)i * step, k + VL);
    }
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) {
      vf first = load(x + k * C + c * VL), second = load(x + (k + VL) * C + c * VL);
#pragma GCC unroll 2
      for (int i = 0; i < R; i++) even[i][c] += low[i] * first, odd[i][c] += high[i] * second;
    }
  }
  for (; k < cols; k += VL)
    for (int i = 0; i < R; i++) {
      vf w = load_as(type, rows + (size_t)i * step, k);
      for (int c = 0; c < C; c++) even[i][c] += w * load(x + k * C + c * VL);
    }
}

// acc[i][c] = weight row r + i times x[c], its columns spread over lanes and two sums, for R weight rows. The order of
// additions is the same for any R and C: what a row gets does not depend on the rows beside it.
INLINE void row_times(const matrix_t *m, const int type, const int R, const int C, int r, const float *x,
                      vf acc[][TOGETHER]) {
  vf even[2][TOGETHER], odd[2][TOGETHER];  // not [R][C]: the compiler keeps arrays of a constant size in registers
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) even[i][c] = odd[i][c] = (vf){0};
  if (type == F32 || type == BF16) {
    const size_t bytes = row_bytes(type, m->cols);
    columns_times(type, R, C, (const char *)m->data + (size_t)r * bytes, bytes, m->cols, x, even, odd);
  } else {
    for (int b = 0; b * BLOCK < m->cols; b++) {
      const int width = block_width(m, b);
      const float *in = x + b * BLOCK * C;
      if (type == INT4) int4_times(m, R, C, r, b, in, even);
      else columns_times(INT8, R, C, block_codes(m, INT8, r, b, width), (size_t)width, width, in, even, odd);
    }
  }
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) acc[i][c] = even[i][c] + odd[i][c];
}

#if VL == 16
#define F32_ROWS 4  // f32 weight rows at once: one sum each, or registers would not do
// As row_times for f32 weights, with one sum: for one row memory is slower than additions that wait for each other.
INLINE void f32_times(const matrix_t *m, const int R, const int C, int r, const float *x, vf acc[][TOGETHER]) {
  const int64_t cols = m->cols;
  const float *base = (const float *)m->data + r * cols;
  vf sums[F32_ROWS][TOGETHER];
#pragma GCC unroll 4
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) sums[i][c] = (vf){0};
  const float *few = base, *last = base + 3 * cols;  // of four rows, two addresses and their distance
  for (int k = 0; k < cols; k += VL, few += VL, last += VL, x += VL * C) {
    vf w[F32_ROWS];
    __asm__("" : "+r"(few), "+r"(last), "+r"(x));  // else the compiler keeps all addresses, on the stack
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      w[i] = load(i < 3 ? few + i * cols : last);
      if (R > 1) __builtin_prefetch((i < 3 ? few + i * cols : last) + R * cols, 0, 2);
    }
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) {
      vf in = load(x + c * VL);
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) sums[i][c] += w[i] * in;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) acc[i][c] = sums[i][c];
}
#else
#define F32_ROWS 2
#define f32_times(m, R, C, r, x, acc) row_times(m, F32, R, C, r, x, acc)
#endif

// `count` weight rows from r on, times C rows of x; results at out[c * stride + i].
INLINE void few_tile(const matrix_t *m, const int type, const int C, int r, int count, const float *x, float *out,
                     int stride) {
  vf acc[TILE][TOGETHER];
  int done = 0;
  if (type == F32) {
    // One row of x that is long does not stay in the first cache beside the weights that pass through: then loading it again
    // for each weight row costs more than four streams do (on a Zen 4 core, 5120 columns: 30 GB/s instead of 22).
    if (C > 1 || m->cols >= LONG)
      for (; done + F32_ROWS <= count; done += F32_ROWS) f32_times(m, F32_ROWS, C, r + done, x, acc + done);
    for (; done < count; done++) f32_times(m, 1, C, r + done, x, acc + done);
  } else if (C > 1)
    for (; done + 2 <= count; done += 2) row_times(m, type, 2, C, r + done, x, acc + done);
  for (; done < count; done++) row_times(m, type, 1, C, r + done, x, acc + done);
  reduce(m, C, r, count, acc, out, stride);
}

INLINE void few_of(const matrix_t *m, const int type, int rows, int r, int count, const float *x, float *out, int stride) {
  switch (rows) {
    case 1: few_tile(m, type, 1, r, count, x, out, stride); break;
    case 2: few_tile(m, type, 2, r, count, x, out, stride); break;
#if TOGETHER > 2
    case 3: few_tile(m, type, 3, r, count, x, out, stride); break;
#endif
    default: few_tile(m, type, TOGETHER, r, count, x, out, stride);
  }
}

static void few_rows(worker_t *worker, const matrix_t *m, int rows, int r0, int r1, const float *x, int x_stride,
                     float *out, int stride) {
  if (rows > 1) {
    for (int first = 0; first < rows; first += TOGETHER)
      interleave(x + (int64_t)first * x_stride, x_stride, rows - first < TOGETHER ? rows - first : TOGETHER, m->cols,
                 worker->turned + (int64_t)first * m->cols);
    x = worker->turned;
  }
  for (int r = r0; r < r1; r += TILE) {
    const int count = r1 - r < TILE ? r1 - r : TILE;
    for (int first = 0; first < rows; first += TOGETHER) {  // a second pass finds the weights in the first cache
      const int C = rows - first < TOGETHER ? rows - first : TOGETHER;
      const float *in = x + (int64_t)first * m->cols;
      float *to = out + (int64_t)first * stride + r;
      switch (m->type) {
        case F32: few_of(m, F32, C, r, count, in, to, stride); break;
        case BF16: few_of(m, BF16, C, r, count, in, to, stride); break;
        case INT8: few_of(m, INT8, C, r, count, in, to, stride); break;
        default: few_of(m, INT4, C, r, count, in, to, stride);
      }
    }
  }
}
