/* The cache object, its memory, and the policy behind four questions: insert, access, remove, victim. */
#ifndef AUTOGLM_CACHE_H
#define AUTOGLM_CACHE_H

#include "lfu.h"
#include "shadow.h"

#define NODE Node
#define INDEX uint32_t
#define NIL NONE
#define NAME(x) main_##x
#include "segments.h"
#undef NODE
#undef INDEX
#undef NIL
#undef NAME

typedef struct {
    Node *nodes; /* capacity + 1 slots: a new entry is put in before an old one leaves */
    Entry *slab;
    uint32_t *table;
    uint32_t shift; /* a key's bucket is the top bits of its hash */
    uint32_t capacity, count, fresh, free, hand;
    uint32_t room; /* entries that fit: the capacity, or fewer if the weight is the tighter limit */
    uint64_t weight, max_weight;
    main_Segments segments;
    Lfu lfu;
    Sketch sketch;
    Shadows shadows;
} Store;

typedef struct {
    PyObject_HEAD
    Store store;
    uint64_t version; /* changes with every entry that comes or goes: a look-up that ran Python code checks it */
    uint32_t default_ttl;
    enum policy policy;
    bool ready, counting;
    double epoch;  /* seconds, of a given clock */
    int64_t start; /* microseconds, of the system's */
    PyObject *weigher, *listener, *clock;
    PyObject *causes; /* tuple, by enum cause */
    Statistics statistics;
} Cache;

static uint32_t EMPTY_TABLE[2] = {NONE, NONE};

static void table_reset(uint32_t *table, uint32_t buckets)
{
    for (uint32_t b = 0; b < buckets; b++) {
        table[b] = NONE;
    }
}

static void store_close(Store *s)
{
    PyMem_RawFree(s->nodes);
    PyMem_RawFree(s->slab);
    if (s->table != EMPTY_TABLE) {
        PyMem_RawFree(s->table);
    }
    PyMem_RawFree(s->sketch.words);
    PyMem_RawFree(s->shadows.memory);
    lfu_close(&s->lfu);
    memset(s, 0, sizeof(*s));
    s->table = EMPTY_TABLE;
    s->shift = 31;
    s->free = NONE;
    main_reset(&s->segments);
}

static void store_retarget(Store *s, enum policy policy)
{
    if (policy == POLICY_ADAPTIVE) {
        main_retarget(&s->segments, s->room, PERCENT[s->shadows.chosen]);
    } else {
        s->segments.window_target = UINT32_MAX; /* one list: plain LRU */
    }
}

static int store_open(Store *s, uint32_t capacity, uint64_t max_weight, enum policy policy)
{
    memset(s, 0, sizeof(*s));
    uint32_t buckets = power_of_two(capacity + (uint32_t)((uint64_t)capacity * 7 / 20) + 2); /* 1.35 to 2.7 each */
    s->capacity = s->room = capacity;
    s->max_weight = max_weight;
    s->free = NONE;
    s->shift = 32 - log_two(buckets);
    s->nodes = PyMem_RawCalloc((size_t)capacity + 1, sizeof(Node));
    s->slab = PyMem_RawCalloc((size_t)capacity + 1, sizeof(Entry));
    s->table = PyMem_RawMalloc(buckets * sizeof(uint32_t));
    bool failed = s->nodes == NULL || s->slab == NULL || s->table == NULL;
    if (policy == POLICY_LFU) {
        failed = failed || lfu_open(&s->lfu, capacity + 1) < 0;
    } else if (policy == POLICY_ADAPTIVE) {
        failed = failed || sketch_open(&s->sketch, capacity) < 0 || shadows_open(&s->shadows, capacity) < 0;
    }
    if (failed) {
        store_close(s);
        PyErr_NoMemory();
        return -1;
    }
    table_reset(s->table, buckets);
    main_reset(&s->segments);
    store_retarget(s, policy);
    return 0;
}

static void store_set_room(Store *s, enum policy policy, uint32_t room)
{
    s->room = room;
    if (policy == POLICY_ADAPTIVE) {
        shadows_room(&s->shadows, room);
        store_retarget(s, policy);
    }
}

/* A use of a key that is in the cache, or comes into it: counted by the sketch and, for a sample, by the shadows. While
 * the window is the whole cache, its own evictions compare no counts: then the sketch counts what the shadows will ask
 * for, the sample, and each of those uses stands for all that were left out in the time until the next halving. */
static inline void policy_count(Store *s, enum policy policy, uint32_t hash)
{
    if (policy == POLICY_ADAPTIVE) {
        bool whole = s->shadows.chosen == WHOLE_WINDOW;
        if (shadows_sampled(&s->shadows, hash)) {
            sketch_count(&s->sketch, hash, whole ? UINT64_C(1) << s->shadows.shift : 1);
            if (shadows_access(&s->shadows, hash, &s->sketch)) {
                store_retarget(s, policy);
            }
        } else if (!whole) {
            sketch_count(&s->sketch, hash, 1);
        }
    }
}

static inline void policy_touch(Store *s, enum policy policy, uint32_t i)
{
    if (policy == POLICY_LRU) {
        main_move(&s->segments, s->nodes, i, WINDOW);
    } else if (policy == POLICY_LFU) {
        lfu_touch(&s->lfu, s->nodes, i);
    } else {
        main_touch(&s->segments, s->nodes, i);
    }
}

static inline void policy_insert(Store *s, enum policy policy, uint32_t i)
{
    if (policy == POLICY_LFU) {
        lfu_insert(&s->lfu, s->nodes, i);
    } else {
        main_push(&s->segments, s->nodes, i, WINDOW);
    }
}

static inline void policy_remove(Store *s, enum policy policy, uint32_t i)
{
    if (policy == POLICY_LFU) {
        lfu_remove(&s->lfu, s->nodes, i);
    } else {
        main_detach(&s->segments, s->nodes, i);
    }
}

static inline uint32_t policy_victim(Store *s, enum policy policy, uint32_t keep)
{
    if (policy == POLICY_LFU) {
        return lfu_victim(&s->lfu, s->nodes, keep);
    }
    if (policy == POLICY_LRU) {
        return s->segments.lists[WINDOW].tail;
    }
    return main_victim(&s->segments, s->nodes, &s->sketch);
}

/* Slots from the one that would leave first to the one that would leave last; `order` has room for all. */
static void policy_order(const Store *s, enum policy policy, uint32_t *order)
{
    if (policy == POLICY_LFU) {
        for (uint32_t b = s->lfu.first; b != NONE; b = s->lfu.buckets[b].next) {
            for (uint32_t i = s->lfu.buckets[b].tail; i != NONE; i = s->nodes[i].prev) {
                *order++ = i;
            }
        }
        return;
    }
    static const enum segment COLD_FIRST[SEGMENTS] = {PROBATION, PROTECTED, WINDOW};
    for (int k = 0; k < SEGMENTS; k++) {
        for (uint32_t i = s->segments.lists[COLD_FIRST[k]].tail; i != NONE; i = s->nodes[i].prev) {
            *order++ = i;
        }
    }
}

#endif
