// Memory and order of a prefill, and the call Python makes.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "decoder.h"

// Hands out pieces of the arena; with no arena it only counts.
typedef struct {
  char *base;
  size_t used;
} room_t;

static void *take(room_t *room, size_t count, size_t size) {
  void *found = room->base ? room->base + room->used : NULL;
  room->used += (count * size + 63) / 64 * 64;
  return found;
}

// Full panels, or smaller ones where every thread would not have one.
static int rows_of_panels(const decoder_t *d, int rows) {
  int each = d->lanes;
  while (each > d->lanes / 4 && rows <= each * (d->model.threads - 1)) each /= 2;
  return each;
}

static void place_batch(const decoder_t *d, batch_t *b, room_t *room, int rows) {
  const model_t *m = &d->model;
  b->rows = rows, b->each = rows_of_panels(d, rows), b->panels = (rows + b->each - 1) / b->each;
  const size_t lanes = (size_t)d->lanes, panels = (size_t)b->panels, all = panels * lanes;
  b->x = take(room, all * (size_t)m->hidden, 4);
  b->q = take(room, all * (size_t)(m->heads * m->head_dim), 4);
  b->rotation = take(room, all * 2 * (size_t)m->rotary_pairs, 4);
  b->length = take(room, all, 4);
  b->begin = take(room, panels + 1, 4);
  b->segment = take(room, (size_t)rows, sizeof(segment_t));
}

static void place(decoder_t *d, room_t *room, const prefill_t *s) {
  const model_t *m = &d->model;
  const size_t lanes = (size_t)d->lanes, some = GROUPED * lanes, hidden = (size_t)m->hidden, dim = (size_t)m->head_dim;
  const size_t q = (size_t)m->heads * dim, kv = (size_t)m->kv_heads * dim, width = (size_t)m->intermediate;
  size_t widest = hidden > width ? hidden : width;
  widest = widest > q ? widest : q;
  place_batch(d, &d->all, room, s->rows);
  place_batch(d, &d->wanted, room, s->wanted > 0 ? s->wanted : 0);
  d->keys = m->keys, d->values = m->values, d->layer_stride = m->layer_stride, d->head_stride = m->head_stride;
  if (!m->keys) {
    d->keys = take(room, kv * (size_t)s->rows, 4), d->values = take(room, kv * (size_t)s->rows, 4);
    d->layer_stride = 0, d->head_stride = (int64_t)s->rows * m->head_dim;
  }
  for (int i = 0; i < m->threads; i++) {
    worker_t *w = &d->workers[i];
    w->panel_normed = take(room, some * hidden, 4);
    w->panel_kv = take(room, some * 2 * kv, 4);
    w->panel_attended = take(room, some * q, 4);
    w->panel_activated = take(room, some * width, 4);
    w->panel_projected = take(room, some * hidden, 4);
    w->panel_weights = take(room, SPREAD_MOST * widest, 4);
    w->panel_scores = take(room, KEYS * lanes, 4);
    w->panel_mixed = take(room, dim * lanes, 4);
    w->panel_keys = take(room, SPREAD_MOST * dim, 4);
    w->panel_row = take(room, 2 * q, 4);
  }
}

#define KEPT ((size_t)64 << 20)

// The memory of a step; it is kept from one to the next, unless it is much.
static int reserve(decoder_t *d, const prefill_t *s) {
  room_t room = {NULL, 0};
  place(d, &room, s);
  if (room.used > d->arena_size) {
    void *found = NULL;
    free(d->arena);
    d->arena = NULL, d->arena_size = 0;
    if (posix_memalign(&found, 64, room.used)) return 0;
    d->arena = found, d->arena_size = room.used;
    memset(d->arena, 0, room.used);  // of what a tile reads beside its weights, no result is kept: but it is memory of ours
  }
  room = (room_t){d->arena, 0};
  place(d, &room, s);
  return 1;
}

// Lengths and segments of a batch whose row i is row `want[i]` of the step (NULL: i).
static void order(const decoder_t *d, batch_t *b, const prefill_t *s, const int64_t *want) {
  int sequence = 0, count = 0, before = -1;
  for (int i = 0; i < b->rows; i++) {
    const int row = want ? (int)want[i] : i, panel = i / b->each, lane = i % b->each;
    const int start = sequence;
    int32_t *length = b->length + (int64_t)panel * d->lanes;
    while (row >= s->sequence[sequence].first + s->sequence[sequence].rows) sequence++;
    const sequence_t *one = &s->sequence[sequence];
    length[lane] = d->model.whole ? one->length : one->length - one->rows + (row - one->first) + 1;
    for (int rest = lane + 1; rest < d->lanes; rest++) length[rest] = length[lane];
    if (lane == 0) b->begin[panel] = count;
    if (lane == 0 || sequence != start || row != before + 1) b->segment[count++] = (segment_t){sequence, lane, lane};
    b->segment[count - 1].last = lane + 1;
    before = row;
  }
  b->begin[b->panels] = count;
}

// Rows through half layers. 0, or -1: no memory.
int autoglm_prefill(decoder_t *d, const prefill_t *step) {
  if (!reserve(d, step)) return -1;
  d->step = step;
  order(d, &d->all, step, NULL);
  order(d, &d->wanted, step, step->want);
  pool_run(d, d->prefill);
  if (d->arena_size > KEPT) {
    free(d->arena);
    d->arena = NULL, d->arena_size = 0;
  }
  return 0;
}

void mark(worker_t *w, enum phase phase) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  const double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
  if (phase < PHASES) w->spent[phase] += now - w->since;
  w->since = now;
}

// CPU seconds that all threads together have spent on each phase since the last call.
void autoglm_spent(decoder_t *d, double *seconds) {
  memset(seconds, 0, PHASES * sizeof *seconds);
  for (int i = 0; i < d->model.threads; i++)
    for (int p = 0; p < PHASES; p++) seconds[p] += d->workers[i].spent[p], d->workers[i].spent[p] = 0;
}

// Operations of a loop of multiply-adds; how long it takes is for the caller to see.
double autoglm_peak(int level, int rounds) {
#ifdef __x86_64__
  if (level >= 2) return peak_avx512(rounds);
  if (level == 1) return peak_avx2(rounds);
#endif
  return (void)level, peak_base(rounds);
}
