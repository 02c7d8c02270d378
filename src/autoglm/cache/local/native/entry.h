/* The slab's entry and the cache object. One translation unit (slab.c) includes every header here once. */
#ifndef AUTOGLM_ENTRY_H
#define AUTOGLM_ENTRY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define NONE ((UINT32_C(1) << 30) - 1)              /* no slot */
#define FOREVER UINT32_MAX                          /* ttl of an entry that never expires */
#define TICKS_MAX ((INT64_C(1) << 48) - 1)          /* microseconds since the cache's epoch: 8.9 years */
#define WEIGHT_MAX ((INT64_C(1) << 48) - 1)         /* one entry */
#define ENTRIES_MAX (INT64_C(1) << 29)

#if defined(__GNUC__)
#define SELDOM __attribute__((noinline, cold)) /* keeps what is seldom done out of the paths that are timed */
#define APART __attribute__((noinline))
#else
#define SELDOM
#define APART
#endif

enum cause { EXPLICIT, REPLACED, SIZE, WEIGHT, EXPIRED, CAUSES };
enum policy { POLICY_LRU, POLICY_LFU, POLICY_ADAPTIVE };

/* A slot is two structs of 16 and 32 bytes: what searches and list moves touch stays dense in the CPU's cache.
 * Links are slot numbers; a free slot has no key and hangs in the free list by `next`. */
typedef struct {
    uint32_t hash;
    uint32_t chain;
    uint32_t prev;
    uint32_t next : 30;
    uint32_t list : 2;
} Node;

typedef struct {
    PyObject *key;
    PyObject *value;
    uint64_t written : 48;
    uint64_t weight_high : 16;
    uint32_t weight_low;
    uint32_t ttl; /* milliseconds */
} Entry;

#define SLOT_BYTES (sizeof(Node) + sizeof(Entry))

typedef struct {
    uint64_t hits, misses, inserts, loads, load_failures;
    uint64_t removed[CAUSES];
    uint64_t hit_age, removed_age; /* microseconds, summed */
    double load_seconds;
} Statistics;

static inline uint64_t entry_weight(const Entry *e) { return ((uint64_t)e->weight_high << 32) | e->weight_low; }

static inline bool entry_expired(const Entry *e, int64_t now)
{
    return e->ttl != FOREVER && now >= (int64_t)e->written + (int64_t)e->ttl * 1000;
}

/* Everything that is decided by a key (table place, sketch counters, sampling) comes from these 32 bits.
 * Fibonacci hashing: keys in a row, as numbers often are, spread evenly over the table. */
static inline uint32_t mix(Py_hash_t hash) { return (uint32_t)((uint64_t)hash * UINT64_C(0x9E3779B97F4A7C15) >> 32); }

/* Other bits of the same key, independent enough of its place in the table. */
static inline uint32_t remix(uint32_t hash, uint32_t factor)
{
    hash = (hash ^ hash >> 15) * factor;
    return hash ^ hash >> 13;
}

static inline uint32_t log_two(uint32_t power)
{
    uint32_t log = 0;
    while (UINT32_C(1) << log < power) {
        log++;
    }
    return log;
}

static inline uint32_t power_of_two(uint32_t at_least)
{
    uint32_t size = 1;
    while (size < at_least) {
        size <<= 1;
    }
    return size;
}

#endif
