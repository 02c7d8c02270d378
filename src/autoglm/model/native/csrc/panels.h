// Products with many rows. Rows are lanes: a panel holds up to 2 * VL rows, feature by feature [features][LANES], so that a
// weight is spread over a vector and meets the same feature of all of them. Weights are read where they lie, and what comes
// out is a panel again: nothing is packed or turned between layers, and whatever works row by row needs no sum over lanes.

#define LANES (2 * VL)
#if VL == 16
#define SPREAD 12  // weight rows of a tile: sums fill the registers
#else
#define SPREAD 6
#endif
#define PER_LINE 16  // f32 in a cache line

// Where a tile's weights are: rows i < SPREAD / 2 at low + i * step, the others at high; `next`: those that come after.
typedef struct {
  const float *low, *high, *next_low, *next_high;
  int64_t step;
} tile_t;

// sums[i][lane] = weight row i times the panel, for the first V vectors of lanes.
INLINE void tile_of(const int V, tile_t t, int cols, const float *x, float *sums) {
  vf acc[SPREAD][2];
  const float *row[SPREAD / 3];  // every third, the others by their distance from it: so many addresses fit the registers
#pragma GCC unroll 4
  for (int j = 0; j < SPREAD / 3; j++) row[j] = (j < SPREAD / 6 ? t.low : t.high) + j % (SPREAD / 6) * 3 * t.step;
#pragma GCC unroll 12
  for (int i = 0; i < SPREAD; i++) acc[i][0] = acc[i][1] = (vf){0};
  for (int k = 0; k < cols; k++, x += LANES) {
    if (k % PER_LINE == 0)
      for (int i = 0; i < SPREAD / 2; i++) {
        __builtin_prefetch(t.next_low + i * t.step + k, 0, 2);
        __builtin_prefetch(t.next_high + i * t.step + k, 0, 2);
      }
    vf first = load(x), second = V > 1 ? load(x + VL) : first;
#pragma GCC unroll 4
    for (int j = 0; j < SPREAD / 3; j++) __asm__("" : "+r"(row[j]));  // else the compiler keeps all addresses, on the stack
#pragma GCC unroll 12
    for (int i = 0; i < SPREAD; i++) {
      vf weight = splat(row[i / 3][i % 3 * t.step]);
      acc[i][0] += weight * first;
      if (V > 1) acc[i][1] += weight * second;
    }
#pragma GCC unroll 4
    for (int j = 0; j < SPREAD / 3; j++) row[j]++;
  }
#pragma GCC unroll 12
  for (int i = 0; i < SPREAD; i++) {
    store(sums + i * LANES, acc[i][0]);
    if (V > 1) store(sums + i * LANES + VL, acc[i][1]);
  }
}

static __attribute__((noinline)) void tile_two(const tile_t *t, int cols, const float *x, float *sums) {
  tile_of(2, *t, cols, x, sums);
}
static __attribute__((noinline)) void tile_one(const tile_t *t, int cols, const float *x, float *sums) {
  tile_of(1, *t, cols, x, sums);
}

#if VL == 16
// As tile_of for the first half of a vector of lanes, which takes half as long.
static __attribute__((noinline)) void tile_half(const tile_t *t, int cols, const float *x, float *sums) {
  __m256 acc[SPREAD];
#pragma GCC unroll 12
  for (int i = 0; i < SPREAD; i++) acc[i] = _mm256_setzero_ps();
  for (int k = 0; k < cols; k++) {
    if (k % PER_LINE == 0)
      for (int i = 0; i < SPREAD / 2; i++) {
        __builtin_prefetch(t->next_low + i * t->step + k, 0, 2);
        __builtin_prefetch(t->next_high + i * t->step + k, 0, 2);
      }
    __m256 in = _mm256_loadu_ps(x + (int64_t)k * LANES);
#pragma GCC unroll 12
    for (int i = 0; i < SPREAD; i++) {
      const float *row = i < SPREAD / 2 ? t->low + i * t->step : t->high + (i - SPREAD / 2) * t->step;
      acc[i] = _mm256_fmadd_ps(_mm256_set1_ps(row[k]), in, acc[i]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < SPREAD; i++) _mm256_storeu_ps(sums + i * LANES, acc[i]);
}
#else
#define tile_half tile_one
#endif

// vectors: of lanes that are wanted; 0: half of one.
static inline void tile(int vectors, const tile_t *t, int cols, const float *x, float *sums) {
  if (vectors > 1) tile_two(t, cols, x, sums);
  else if (vectors == 1) tile_one(t, cols, x, sums);
  else tile_half(t, cols, x, sums);
}

// Panels that one thread takes through a product together.
typedef struct {
  int count, panel[GROUPED], vectors[GROUPED];
} group_t;

// Rows that a panel has.
static int rows_in(const batch_t *b, int panel) {
  const int left = b->rows - panel * b->each;
  return left < b->each ? left : b->each;
}

// This thread's panels from its `first` one on; every threads-th is its own, since later ones have more to attend to.
static group_t group_from(const worker_t *w, const batch_t *b, int first) {
  group_t g = {0};
  for (int p = first; p < b->panels && g.count < GROUPED; p += w->decoder->model.threads) {
    g.panel[g.count] = p;
    const int rows = rows_in(b, p);
    g.vectors[g.count++] = rows > VL ? 2 : rows > VL / 2;
  }
  return g;
}
#define EACH_GROUP(w, b, g)                                                                              \
  for (int first_ = (w)->index; first_ < (b)->panels; first_ += GROUPED * (w)->decoder->model.threads) \
    for (group_t found_ = group_from(w, b, first_), *g = &found_; g; g = NULL)

// `count` rows of a matrix from r on, where a tile can read them: in place, or as f32 in `buffer`.
static const float *rows_of(const matrix_t *m, int r, int count, int whole, float *buffer) {
  if (m->type == F32 && count == whole) return (const float *)m->data + (size_t)r * (size_t)m->cols;
  for (int i = 0; i < count; i++) {
    float *to = buffer + (int64_t)i * m->cols;
    if (m->type == F32) memcpy(to, (const float *)m->data + (size_t)(r + i) * (size_t)m->cols, (size_t)m->cols * 4);
    else widen(m, r + i, to);
  }
  return buffer;
}

// out[panel][r - r0] = weight row r times x[panel], plus bias; both with their own width.
static void product(worker_t *w, const matrix_t *m, int r0, int r1, const group_t *g, float *const *x, float *const *out) {
  float sums[SPREAD * LANES] __attribute__((aligned(64)));
  for (int r = r0; r < r1; r += SPREAD) {
    const int count = r1 - r < SPREAD ? r1 - r : SPREAD;
    const float *low = rows_of(m, r, count, SPREAD, w->panel_weights), *next = low;
    if (m->type == F32 && r + 2 * SPREAD <= r1) next = low + (int64_t)SPREAD * m->cols;
    const int64_t half = (int64_t)(SPREAD / 2) * m->cols;
    const tile_t t = {low, low + half, next, next + half, m->cols};
    for (int i = 0; i < g->count; i++) {
      tile(g->vectors[i], &t, m->cols, x[i], sums);
      for (int j = 0; j < count; j++) {
        float *to = out[i] + (int64_t)(r - r0 + j) * LANES, bias = m->bias ? m->bias[r + j] : 0;
        for (int v = 0; v < LANES; v += VL) store(to + v, load(sums + j * LANES + v) + bias);
      }
    }
  }
}

// out[panel] = silu(gate) * up, of the two halves of a matrix's rows: a tile has the same rows of both.
static void gated_product(worker_t *w, const matrix_t *m, const group_t *g, float *const *x, float *const *out) {
  float sums[SPREAD * LANES] __attribute__((aligned(64)));
  const int width = m->rows / 2, each = SPREAD / 2;
  for (int r = 0; r < width; r += each) {
    const int count = width - r < each ? width - r : each;
    const float *low = rows_of(m, r, count, each, w->panel_weights);
    const float *high = rows_of(m, width + r, count, each, w->panel_weights + (int64_t)each * m->cols);
    const int64_t ahead = m->type == F32 && r + 2 * each <= width ? (int64_t)each * m->cols : 0;
    const tile_t t = {low, high, low + ahead, high + ahead, m->cols};
    for (int i = 0; i < g->count; i++) {
      tile(g->vectors[i], &t, m->cols, x[i], sums);
      for (int j = 0; j < count; j++)
        for (int v = 0; v < LANES; v += VL) {
          vf gate = load(sums + j * LANES + v), up = load(sums + (each + j) * LANES + v);
          store(out[i] + (int64_t)(r + j) * LANES + v, gate / (exp_of(-gate) + 1.0f) * up);
        }
    }
  }
}

// 1 / rms of each lane.
INLINE void lane_scales(const float *x, int n, float eps, vf scale[2]) {
  vf even[2] = {{0}, {0}}, odd[2] = {{0}, {0}};
  for (int k = 0; k < n; k += 2)
    for (int v = 0; v < 2; v++) {
      vf a = load(x + k * LANES + v * VL), b = load(x + (k + 1) * LANES + v * VL);
      even[v] += a * a, odd[v] += b * b;
    }
  for (int v = 0; v < 2; v++) {
    vf mean = (even[v] + odd[v]) / (float)n + eps;
    for (int i = 0; i < VL; i++) scale[v][i] = 1.0f / sqrtf(mean[i]);
  }
}

// out = x / rms(x) * weight, n even
static void norm_panel(float *out, const float *x, const float *weight, int n, float eps) {
  vf scale[2];
  lane_scales(x, n, eps, scale);
  for (int k = 0; k < n; k++)
    for (int v = 0; v < 2; v++) store(out + k * LANES + v * VL, load(x + k * LANES + v * VL) * scale[v] * weight[k]);
}

// x += y / rms(y) * weight, or plainly y without a weight
static void add_norm_panel(float *x, const float *y, const float *weight, int n, float eps) {
  vf scale[2];
  if (!weight) {
    for (int k = 0; k < n * LANES; k += VL) store(x + k, load(x + k) + load(y + k));
    return;
  }
  lane_scales(y, n, eps, scale);
  for (int k = 0; k < n; k++)
    for (int v = 0; v < 2; v++) {
      float *to = x + k * LANES + v * VL;
      store(to, load(to) + load(y + k * LANES + v * VL) * scale[v] * weight[k]);
    }
}

// Rows [count][n] to the lanes of a panel; lanes behind them are zero.
static void panel_of_rows(float *panel, const float *rows, int count, int n) {
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < count; i++) panel[k * LANES + i] = rows[(int64_t)i * n + k];
    for (int i = count; i < LANES; i++) panel[k * LANES + i] = 0;
  }
}

static void rows_of_panel(float *rows, const float *panel, int count, int n) {
  for (int k = 0; k < n; k++)
    for (int i = 0; i < count; i++) rows[(int64_t)i * n + k] = panel[k * LANES + i];
}
