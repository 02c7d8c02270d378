// A decoder's memory, its threads, and the calls Python makes.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"

#define SPINS_BEFORE_YIELD 2000
#define SPINS_BEFORE_SLEEP 20000

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t work;
  _Atomic uint32_t ticket;
  int started;
  pthread_t thread[];
} pool_t;

static inline void relax(void) {
#ifdef __x86_64__
  __builtin_ia32_pause();
#else
  atomic_signal_fence(memory_order_seq_cst);
#endif
}

void pool_barrier(decoder_t *d) {
  if (d->model.threads == 1) return;
  uint32_t generation = atomic_load_explicit(&d->generation, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&d->arrived, 1, memory_order_acq_rel) + 1 == (uint32_t)d->model.threads) {
    atomic_store_explicit(&d->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&d->generation, generation + 1, memory_order_release);
    return;
  }
  for (int spins = 0; atomic_load_explicit(&d->generation, memory_order_acquire) == generation;) {
    if (++spins < SPINS_BEFORE_YIELD) relax();
    else sched_yield();
  }
}

static void *work(void *argument) {
  worker_t *w = argument;
  decoder_t *d = w->decoder;
  pool_t *pool = d->pool;
  for (uint32_t seen = 0;; seen++) {
    for (int spins = 0; spins < SPINS_BEFORE_SLEEP && atomic_load_explicit(&pool->ticket, memory_order_acquire) == seen; spins++)
      relax();
    if (atomic_load_explicit(&pool->ticket, memory_order_acquire) == seen) {
      pthread_mutex_lock(&pool->lock);
      while (atomic_load_explicit(&pool->ticket, memory_order_acquire) == seen) pthread_cond_wait(&pool->work, &pool->lock);
      pthread_mutex_unlock(&pool->lock);
    }
    if (d->stopping) return NULL;
    d->job(w);
  }
}

static void wake(pool_t *pool) {
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_release);
  pthread_cond_broadcast(&pool->work);
  pthread_mutex_unlock(&pool->lock);
}

void pool_run(decoder_t *d, void (*job)(worker_t *)) {
  d->job = job;
  if (d->model.threads > 1) wake(d->pool);
  job(&d->workers[0]);
}

static void *memory(size_t count, size_t size, int *failed) {
  void *p = NULL;
  size_t bytes = (count * size + 63) / 64 * 64;
  if (posix_memalign(&p, 64, bytes ? bytes : 64)) *failed = 1, p = NULL;
  return p;
}

int autoglm_abi(void) { return ABI; }

// Which instruction set decode_create picks: 0 base, 1 AVX2, 2 AVX-512, 3 with VNNI.
int autoglm_level(void) {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return __builtin_cpu_supports("avx512vnni") ? 3 : 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

static int allocate(decoder_t *d) {
  const model_t *m = &d->model;
  const size_t rows = (size_t)m->max_rows, padded = (rows + 15) / 16 * 16, tokens = (size_t)m->max_tokens;
  const size_t q = (size_t)m->heads * (size_t)m->head_dim, cross = (size_t)m->cross_heads * (size_t)m->cross_head_dim;
  const size_t width = (size_t)m->intermediate, hidden = (size_t)m->hidden;
  size_t widest = hidden > width ? hidden : width;
  widest = widest > q ? widest : q;
  widest = widest > cross ? widest : cross;
  size_t group = (size_t)(m->heads / m->kv_heads);
  if (m->cross_kv_heads && (size_t)(m->cross_heads / m->cross_kv_heads) > group)
    group = (size_t)(m->cross_heads / m->cross_kv_heads);
  int failed = 0;
  d->qkv = memory(rows * (q + 2 * (size_t)m->kv_heads * (size_t)m->head_dim), 4, &failed);
  d->attended = memory(rows * (q > cross ? q : cross), 4, &failed);
  d->projected = memory(rows * hidden, 4, &failed);
  d->activated = memory(rows * 2 * width, 4, &failed);
  d->cross_q = memory(rows * cross, 4, &failed);
  d->gate_q = memory(rows * (size_t)m->gate_rank, 4, &failed);
  d->log_mask = memory(m->cross_heads ? rows * tokens : 0, 4, &failed);
  d->rotation = memory(rows * (size_t)m->rotary_pairs * 2, 4, &failed);
  d->seeing = memory(rows, 4, &failed);
  for (int i = 0; i < m->threads && !failed; i++) {
    worker_t *w = &d->workers[i];
    w->decoder = d;
    w->index = i;
    w->x = memory(rows * hidden, 4, &failed);
    w->normed = memory(rows * hidden, 4, &failed);
    w->turned = memory(rows > 1 ? padded * widest : 0, 4, &failed);
    w->weights = memory(8 * widest, 4, &failed);
    w->codes = memory(m->integer_products ? rows * ((widest + 127) / 128) : 0, sizeof(codes_t), &failed);
    w->scores = memory(group * tokens, 4, &failed);
    // One piece a block, or one an image, which has a token at least.
    w->pieces = memory(m->cross_heads ? tokens + 2 : tokens / (size_t)m->block_size + 2, sizeof(piece_t), &failed);
  }
  return !failed;
}

void autoglm_destroy(decoder_t *d) {
  if (!d) return;
  pool_t *pool = d->pool;
  if (pool) {
    d->stopping = 1;
    wake(pool);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->thread[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    free(pool);
  }
  void *shared[] = {d->qkv, d->attended, d->projected, d->activated, d->cross_q, d->gate_q, d->log_mask, d->rotation, d->seeing};
  for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) free(shared[i]);
  for (int i = 0; d->workers && i < d->model.threads; i++) {
    worker_t *w = &d->workers[i];
    free(w->x), free(w->normed), free(w->turned), free(w->weights), free(w->codes), free(w->scores), free(w->pieces);
  }
  free(d->workers);
  free(d->arena);
  free(d);
}

// NULL if memory or threads ran out. `level` is at most what autoglm_level gives; the model's arrays must outlive the decoder.
decoder_t *autoglm_create(const model_t *model, int level) {
  decoder_t *d = calloc(1, sizeof *d);
  if (!d) return NULL;
  d->model = *model;
  d->forward = forward_base, d->prefill = prefill_base, d->lanes = 8;
#ifdef __x86_64__
  if (level >= 1) d->forward = forward_avx2, d->prefill = prefill_avx2, d->lanes = 16;
  if (level >= 2) d->forward = forward_avx512, d->prefill = prefill_avx512, d->lanes = 32;
  if (level >= 3) d->forward = forward_vnni;
#endif
  d->workers = calloc((size_t)model->threads, sizeof *d->workers);
  pool_t *pool = d->pool = calloc(1, sizeof *pool + sizeof(pthread_t) * (size_t)model->threads);
  if (!pool) goto failed;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->work, NULL);
  if (!d->workers || !allocate(d)) goto failed;
  for (int i = 1; i < model->threads; i++) {
    if (pthread_create(&pool->thread[i - 1], NULL, work, &d->workers[i])) goto failed;
    pool->started = i;
  }
  return d;
failed:
  autoglm_destroy(d);
  return NULL;
}

// A matrix as f32, row by row.
void autoglm_widen(const matrix_t *m, float *out, int level) {
#ifdef __x86_64__
  if (level >= 2) widen_avx512(m, out);
  else if (level == 1) widen_avx2(m, out);
  else
#endif
    widen_base(m, out), (void)level;
}

// One step. before: NULL where there is an embedding; out: logits [rows that want them][rows of the head], or what the next
// stage takes as its `before` (see decoder_t). 0, or what a sum over the ranks failed with.
int autoglm_step(decoder_t *d, const row_t *rows, int count, const float *before, float *out) {
  d->rows = rows;
  d->row_count = count;
  d->before = before;
  d->out = out;
  d->seeing_count = 0;
  d->failed = 0;
  for (int i = 0; i < count; i++)
    if (rows[i].images) d->seeing[d->seeing_count++] = i;
  pool_run(d, d->forward);
  return d->failed;
}

// Index of the largest of logits[i] - amount of i; the first of equals. Restores what it changes.
int autoglm_choose(float *logits, int vocab, const int64_t *ids, const float *amounts, int count) {
  float kept[count > 0 ? count : 1];
  for (int i = 0; i < count; i++) kept[i] = logits[ids[i]], logits[ids[i]] -= amounts[i];
#ifdef __x86_64__
  const int level = autoglm_level();
  const int best = level >= 2   ? choose_avx512(logits, vocab)
                   : level == 1 ? choose_avx2(logits, vocab)
                                : choose_base(logits, vocab);
#else
  const int best = choose_base(logits, vocab);
#endif
  for (int i = count - 1; i >= 0; i--) logits[ids[i]] = kept[i];
  return best;
}
