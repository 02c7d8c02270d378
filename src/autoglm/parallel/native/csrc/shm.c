// Collectives among the processes of one host over shared memory.
//
// Each rank owns a line (its counter) and two slots of `capacity` bytes, used in turn. A message: write the own slot, raise
// the own counter, wait for all counters, read all slots. A rank writes a slot again two messages later; by then it has
// seen all counters of the message between, and whoever raised that one had finished reading. So two slots are enough.
// Sums run in rank order on every rank: all ranks get equal bits.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

enum { MAX_RANKS = 64, LINE = 128, ONE_SHOT = 32768, SLICE_MS = 50, YIELDS = 16, TILE = 512 };
enum { FINE = 0, DEAD = 1, HUNG = 2, BROKEN = 3, MISMATCH = 4 };
enum { F32 = 0, BF16 = 1 };

typedef struct {
  _Atomic uint32_t phase;    // raised once a message, twice for those that are reduced in parts
  _Atomic uint32_t sleepers; // ranks asleep on `phase`
  uint64_t kind[2];          // operation and size of the message in each slot: ranks that disagree must not go on
  char pad[LINE - 24];
} Line;

typedef struct {
  _Atomic uint32_t broken; // a rank gave up: nobody waits any longer
  char pad[LINE - 4];
} Head;

typedef struct {
  Head *head;
  Line *lines;
  char *slots;
  uint64_t capacity;
  int world, rank;
  int watch[MAX_RANKS]; // pidfds of the peers, -1 where there is none
  int64_t spin_ns, timeout_ns;
  uint32_t phase, message;
  int culprit;
} Group;

uint64_t autoglm_shm_bytes(int world, uint64_t capacity) {
  return sizeof(Head) + (uint64_t)world * (sizeof(Line) + 2 * capacity);
}

// `memory`: autoglm_shm_bytes() of zeros, mapped by every rank. `watch`: a pidfd a rank, or -1.
Group *autoglm_shm_open(void *memory, int world, int rank, uint64_t capacity, const int *watch, int64_t spin_ns,
                        int64_t timeout_ns) {
  if (world < 1 || world > MAX_RANKS) return NULL;
  Group *g = calloc(1, sizeof(Group));
  if (!g) return NULL;
  g->head = memory;
  g->lines = (Line *)((char *)memory + sizeof(Head));
  g->slots = (char *)(g->lines + world);
  g->capacity = capacity;
  g->world = world;
  g->rank = rank;
  memcpy(g->watch, watch, sizeof(int) * (size_t)world);
  g->spin_ns = spin_ns;
  g->timeout_ns = timeout_ns;
  return g;
}

void autoglm_shm_close(Group *g) { free(g); }

int autoglm_shm_culprit(const Group *g) { return g->culprit; }

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static char *slot(const Group *g, int rank) {
  return g->slots + (2 * (uint64_t)rank + (g->message & 1)) * g->capacity;
}

static inline bool reached(Line *line, uint32_t target) {
  return (int32_t)(atomic_load_explicit(&line->phase, memory_order_acquire) - target) >= 0;
}

static void wake(Line *line) {
  if (atomic_load(&line->sleepers)) syscall(SYS_futex, &line->phase, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

// Nobody can be helped by waiting: tell all, and wake those asleep on any line.
static int give_up(Group *g, int why, int culprit) {
  uint32_t none = 0;
  atomic_compare_exchange_strong(&g->head->broken, &none, (uint32_t)culprit + 1);
  for (int r = 0; r < g->world; r++) wake(&g->lines[r]);
  g->culprit = culprit;
  return why;
}

static int sleep_until(Group *g, int peer, uint32_t target) {
  Line *line = &g->lines[peer];
  const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};
  const int64_t deadline = now_ns() + g->timeout_ns;
  for (;;) {
    // The sleeper is counted before the kernel compares the counter, and the counter is raised before sleepers are
    // counted: one of the two sees the other.
    atomic_fetch_add(&line->sleepers, 1);
    const uint32_t seen = atomic_load(&line->phase);
    if ((int32_t)(seen - target) < 0) syscall(SYS_futex, &line->phase, FUTEX_WAIT, seen, &slice, NULL, 0);
    atomic_fetch_sub(&line->sleepers, 1);
    if (reached(line, target)) return FINE;
    const uint32_t broken = atomic_load(&g->head->broken);
    if (broken) {
      g->culprit = (int)broken - 1;
      return BROKEN;
    }
    struct pollfd gone = {.fd = g->watch[peer], .events = POLLIN};
    if (g->watch[peer] >= 0 && poll(&gone, 1, 0) > 0 && !reached(line, target)) return give_up(g, DEAD, peer);
    if (now_ns() > deadline) return give_up(g, HUNG, peer);
  }
}

// Spins, then gives the core away, then sleeps.
static int wait_for(Group *g, int peer, uint32_t target) {
  Line *line = &g->lines[peer];
  if (reached(line, target)) return FINE;
  if (g->spin_ns) {
    const int64_t until = now_ns() + g->spin_ns;
    do {
      for (int i = 0; i < 32; i++) {
        if (reached(line, target)) return FINE;
        relax();
      }
    } while (now_ns() < until);
  }
  for (int i = 0; i < YIELDS; i++) {
    sched_yield();
    if (reached(line, target)) return FINE;
  }
  return sleep_until(g, peer, target);
}

static int meet(Group *g) {
  Line *own = &g->lines[g->rank];
  g->phase++;
  atomic_store(&own->phase, g->phase);
  wake(own);
  for (int r = 0; r < g->world; r++) {
    const int why = r == g->rank ? FINE : wait_for(g, r, g->phase);
    if (why) return why;
  }
  return FINE;
}

// `meet` after which all slots hold the same operation of the same size.
static int exchange(Group *g, uint64_t kind) {
  if (atomic_load_explicit(&g->head->broken, memory_order_relaxed)) {
    g->culprit = (int)atomic_load(&g->head->broken) - 1;
    return BROKEN;
  }
  g->lines[g->rank].kind[g->message & 1] = kind;
  const int why = meet(g);
  if (why) return why;
  for (int r = 0; r < g->world; r++)
    if (g->lines[r].kind[g->message & 1] != kind) return give_up(g, MISMATCH, r);
  return FINE;
}

static inline uint16_t to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)((bits >> 16) | 0x40);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

CLONES static void sum_f32(float *out, char *const *from, int world, uint64_t first, uint64_t count) {
  for (uint64_t start = 0; start < count; start += TILE) {
    const uint64_t n = count - start < TILE ? count - start : TILE;
    float tile[TILE];
    memcpy(tile, (const float *)from[0] + first + start, n * 4);
    for (int r = 1; r < world; r++) {
      const float *other = (const float *)from[r] + first + start;
      for (uint64_t i = 0; i < n; i++) tile[i] += other[i];
    }
    memcpy(out + start, tile, n * 4);
  }
}

// Added in float, rounded once.
CLONES static void sum_bf16(uint16_t *out, char *const *from, int world, uint64_t first, uint64_t count) {
  for (uint64_t start = 0; start < count; start += TILE) {
    const uint64_t n = count - start < TILE ? count - start : TILE;
    float tile[TILE] = {0};
    for (int r = 0; r < world; r++) {
      const uint16_t *other = (const uint16_t *)from[r] + first + start;
      for (uint64_t i = 0; i < n; i++) tile[i] += float_of((uint32_t)other[i] << 16);
    }
    for (uint64_t i = 0; i < n; i++) out[start + i] = to_bf16(tile[i]);
  }
}

static void sum(void *out, char *const *from, int world, uint64_t first, uint64_t count, int type) {
  if (type == F32) sum_f32(out, from, world, first, count);
  else sum_bf16(out, from, world, first, count);
}

// One message of at most `capacity` bytes. Small: every rank adds up everything. Large: each adds up its part in its own
// slot, where nobody else reads that part, and then all collect the parts.
static int reduce_one(Group *g, char *data, uint64_t count, uint64_t width, int type) {
  const uint64_t bytes = count * width;
  char *from[MAX_RANKS];
  for (int r = 0; r < g->world; r++) from[r] = slot(g, r);
  memcpy(from[g->rank], data, bytes);
  int why = exchange(g, (uint64_t)1 << 56 | (uint64_t)type << 48 | bytes);
  if (why) return why;
  if (bytes <= ONE_SHOT) {
    sum(data, from, g->world, 0, count, type);
  } else {
    const uint64_t w = (uint64_t)g->world, me = (uint64_t)g->rank;
    const uint64_t first = count * me / w, last = count * (me + 1) / w;
    sum(from[g->rank] + first * width, from, g->world, first, last - first, type);
    why = meet(g);
    if (why) return why;
    for (uint64_t r = 0; r < w; r++) {
      const uint64_t a = count * r / w * width, b = count * (r + 1) / w * width;
      memcpy(data + a, from[r] + a, b - a);
    }
  }
  g->message++;
  return FINE;
}

int autoglm_shm_all_reduce(Group *g, void *data, uint64_t count, int type) {
  const uint64_t width = type == F32 ? 4 : 2, most = g->capacity / width;
  for (uint64_t done = 0; done < count; done += most) {
    const uint64_t n = count - done < most ? count - done : most;
    const int why = reduce_one(g, (char *)data + done * width, n, width, type);
    if (why) return why;
  }
  return FINE;
}

// `out`: world times `bytes`, in rank order.
int autoglm_shm_all_gather(Group *g, const void *data, void *out, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes; done += g->capacity) {
    const uint64_t n = bytes - done < g->capacity ? bytes - done : g->capacity;
    memcpy(slot(g, g->rank), (const char *)data + done, n);
    const int why = exchange(g, (uint64_t)2 << 56 | n);
    if (why) return why;
    for (int r = 0; r < g->world; r++) memcpy((char *)out + (uint64_t)r * bytes + done, slot(g, r), n);
    g->message++;
  }
  return FINE;
}

int autoglm_shm_broadcast(Group *g, void *data, uint64_t bytes, int root) {
  for (uint64_t done = 0; done < bytes; done += g->capacity) {
    const uint64_t n = bytes - done < g->capacity ? bytes - done : g->capacity;
    if (g->rank == root) memcpy(slot(g, root), (const char *)data + done, n);
    const int why = exchange(g, (uint64_t)3 << 56 | (uint64_t)root << 48 | n);
    if (why) return why;
    if (g->rank != root) memcpy((char *)data + done, slot(g, root), n);
    g->message++;
  }
  return FINE;
}

int autoglm_shm_barrier(Group *g) {
  const int why = exchange(g, (uint64_t)4 << 56);
  g->message++;
  return why;
}
