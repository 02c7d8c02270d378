// Products of packed weights on whole numbers (AVX-512 VNNI). The rows are rounded to 8 bits first, with one scale for every
// 8 columns: finer than the weights' own, so that it adds little to their error. Any number of rows; the weights of a tile
// come from memory once, and for one row TILE weight rows meet what is loaded of it once: with fewer instructions between them,
// more loads are under way (on a Zen 4 core 33 GB/s instead of 21). What a row gets does not depend on the rows beside it.

typedef char codes_t_has_its_size[sizeof(codes_t) == 256 ? 1 : -1];

// Position p of a block holds this column: lane i of a product takes positions 4i.. and 64 + 4i.., and INT4 keeps columns
// j and j + 16 of a group in one byte.
INLINE int column_of(const int type, int p) {
  return type == INT8 ? p : p < 64 ? p / 16 * 32 + p % 16 : (p - 64) / 16 * 32 + 16 + p % 16;
}

// Block b of the row goes to out[b * step].
INLINE void round_row(const int type, const float *x, int cols, codes_t *out, int step) {
  const __m512i middle = _mm512_set1_epi8(-128);
  for (int start = 0; start < cols; start += BLOCK, out += step) {
    __m512 v[8];
    for (int j = 0; j < 8; j++) {
      int k = start + column_of(type, 16 * j);  // widths are multiples of 16
      v[j] = k < cols ? _mm512_loadu_ps(x + k) : _mm512_setzero_ps();
    }
    for (int j = 0; j < 4; j++) {
      __m512 top = _mm512_max_ps(_mm512_abs_ps(v[j]), _mm512_abs_ps(v[j + 4]));
      top = _mm512_max_ps(top, _mm512_permute_ps(top, 0xb1));
      top = _mm512_max_ps(top, _mm512_permute_ps(top, 0x4e));
      __m512 scale = _mm512_mul_ps(top, _mm512_set1_ps(1.0f / 127));
      __mmask16 some = _mm512_cmp_ps_mask(top, _mm512_set1_ps(1e-30f), _CMP_GT_OQ);
      __m512 inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(127), top);
      for (int half = 0; half < 2; half++) {
        __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(v[j + 4 * half], inverse));
        _mm_store_si128((__m128i *)(out->code + 64 * half + 16 * j), _mm512_cvtsepi32_epi8(code));
      }
      _mm_store_ps(out->scale + 4 * j, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, scale)));
    }
    // Weights are shifted by 128 to be unsigned, so a product starts at what that adds, negated.
    __m512i shift = _mm512_dpbusd_epi32(_mm512_setzero_si512(), middle, _mm512_load_si512(out->code));
    shift = _mm512_dpbusd_epi32(shift, middle, _mm512_load_si512(out->code + 64));
    _mm512_store_si512(out->start, _mm512_sub_epi32(_mm512_setzero_si512(), shift));
  }
}

// A block of a weight row, shifted by 128; INT4's scales are spread over the lanes.
typedef struct {
  __m512i low, high;
  __m512 scale;
} block_t;

// `width`: how many of its columns there are.
INLINE block_t int8_block(const int8_t *w, int width) {
  const __m512i middle = _mm512_set1_epi8(-128);
  block_t out = {0};
  if (width == BLOCK) {
    out.low = _mm512_loadu_si512(w), out.high = _mm512_loadu_si512(w + 64);
  } else {
    __mmask64 first = width >= 64 ? ~0ull : (1ull << width) - 1, rest = width > 64 ? (1ull << (width - 64)) - 1 : 0;
    out.low = _mm512_maskz_loadu_epi8(first, w), out.high = _mm512_maskz_loadu_epi8(rest, w + 64);
  }
  out.low = _mm512_xor_si512(out.low, middle), out.high = _mm512_xor_si512(out.high, middle);
  return out;
}

INLINE block_t int4_block(const uint8_t *w, const uint16_t *scales, int width) {
  // CODES + 128
  const __m512i table = _mm512_broadcast_i32x4(
      _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15));
  const __m512i nibble = _mm512_set1_epi8(15);
  // Lane 4g + i takes the bf16 of group g as the upper half of a float.
  const __m512i spread = _mm512_set_epi32(0x07068080, 0x07068080, 0x07068080, 0x07068080, 0x05048080, 0x05048080, 0x05048080,
                                          0x05048080, 0x03028080, 0x03028080, 0x03028080, 0x03028080, 0x01008080, 0x01008080,
                                          0x01008080, 0x01008080);
  __m512i both;
  int64_t four = 0;
  if (width == BLOCK) {
    both = _mm512_loadu_si512(w);
    memcpy(&four, scales, 8);
  } else {
    both = _mm512_maskz_loadu_epi8((1ull << (width / 2)) - 1, w);
    memcpy(&four, scales, (size_t)(width / GROUP) * 2);
  }
  return (block_t){_mm512_shuffle_epi8(table, _mm512_and_si512(both, nibble)),
                   _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble)),
                   _mm512_castsi512_ps(_mm512_shuffle_epi8(_mm512_set1_epi64(four), spread))};
}

// acc[i][c] += block b of weight rows r + i, times that of x[c].
INLINE void block_times(const matrix_t *m, const int type, const int R, const int C, int r, int b, const int width,
                        const codes_t *x, __m512 acc[][TOGETHER]) {
  const char *codes = block_codes(m, type, r, b, width);
  const uint16_t *scales = type == INT8 ? NULL : block_scales(m, r, b, width);
  block_t w[TILE];
#pragma GCC unroll 4
  for (int i = 0; i < R; i++)
    w[i] = type == INT8 ? int8_block((const int8_t *)codes + i * width, width)
                        : int4_block((const uint8_t *)codes + i * (width / 2), scales + i * (width / GROUP), width);
#pragma GCC unroll 4
  for (int c = 0; c < C; c++) {
    const codes_t *in = x + b * C + c;
    const __m512i start = _mm512_load_si512(in->start), low = _mm512_load_si512(in->code),
                  high = _mm512_load_si512(in->code + 64);
    const __m512 scale = _mm512_load_ps(in->scale);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      __m512i d = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, w[i].low, low), w[i].high, high);
      acc[i][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), type == INT8 ? scale : _mm512_mul_ps(w[i].scale, scale), acc[i][c]);
    }
  }
}

INLINE void integer_times(const matrix_t *m, const int type, const int R, const int C, int r, const codes_t *x,
                          vf out[][TOGETHER]) {
  const int whole = m->cols / BLOCK, rest = m->cols % BLOCK;
  __m512 acc[TILE][TOGETHER];
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) acc[i][c] = _mm512_setzero_ps();
  for (int b = 0; b < whole; b++) block_times(m, type, R, C, r, b, BLOCK, x, acc);
  if (rest) block_times(m, type, R, C, r, whole, rest, x, acc);
  for (int i = 0; i < R; i++)
    for (int c = 0; c < C; c++) out[i][c] = (vf)acc[i][c];
}

INLINE void integer_tile(const matrix_t *m, const int type, const int C, int r, int count, const codes_t *x, float *out,
                         int stride) {
  vf acc[TILE][TOGETHER];
  int done = 0;
  if (C == 1 && count == TILE) integer_times(m, type, TILE, C, r, x, acc), done = TILE;
  for (; done + 2 <= count; done += 2) integer_times(m, type, 2, C, r + done, x, acc + done);
  for (; done < count; done++) integer_times(m, type, 1, C, r + done, x, acc + done);
  reduce(m, C, r, count, acc, out, stride);
}

INLINE void integer_of(const matrix_t *m, const int type, int rows, int r, int count, const codes_t *x, float *out,
                       int stride) {
  switch (rows) {
    case 1: integer_tile(m, type, 1, r, count, x, out, stride); break;
    case 2: integer_tile(m, type, 2, r, count, x, out, stride); break;
    case 3: integer_tile(m, type, 3, r, count, x, out, stride); break;
    default: integer_tile(m, type, 4, r, count, x, out, stride);
  }
}

static void integer_rows(worker_t *worker, const matrix_t *m, int rows, int r0, int r1, const float *x, int x_stride,
                         float *out, int stride) {
  const int ld = (m->cols + BLOCK - 1) / BLOCK;
  codes_t *codes = worker->codes;
  for (int c = 0; c < rows; c++) {  // rows that share a weight lie side by side, block by block: [ld][C]
    const int first = c / TOGETHER * TOGETHER, C = rows - first < TOGETHER ? rows - first : TOGETHER;
    codes_t *to = codes + (int64_t)first * ld + (c - first);
    if (m->type == INT8) round_row(INT8, x + (int64_t)c * x_stride, m->cols, to, C);
    else round_row(INT4, x + (int64_t)c * x_stride, m->cols, to, C);
  }
  for (int r = r0; r < r1; r += TILE) {
    const int count = r1 - r < TILE ? r1 - r : TILE;
    for (int first = 0; first < rows; first += TOGETHER) {
      const int C = rows - first < TOGETHER ? rows - first : TOGETHER;
      const codes_t *in = codes + (int64_t)first * ld;
      float *to = out + (int64_t)first * stride + r;
      if (m->type == INT8) integer_of(m, INT8, C, r, count, in, to, stride);
      else integer_of(m, INT4, C, r, count, in, to, stride);
    }
  }
}
