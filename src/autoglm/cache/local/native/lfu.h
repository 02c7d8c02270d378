/* Least frequently used in O(1): buckets of equal use counts in ascending order, each a list of entries.
 *
 * Ties go to the least recently used. The buckets grow with the number of different counts, not of entries.
 */
#ifndef AUTOGLM_LFU_H
#define AUTOGLM_LFU_H

#include "entry.h"

typedef struct {
    uint64_t uses;
    uint32_t head, tail, prev, next;
} Bucket;

typedef struct {
    uint32_t *of; /* bucket of each slot */
    Bucket *buckets;
    uint32_t size, free, first;
} Lfu;

static int lfu_grow(Lfu *l)
{
    uint32_t size = l->size ? l->size * 2 : 16;
    Bucket *grown = PyMem_RawRealloc(l->buckets, size * sizeof(Bucket));
    if (grown == NULL) {
        return -1;
    }
    for (uint32_t b = size; b-- > l->size;) {
        grown[b].next = l->free;
        l->free = b;
    }
    l->buckets = grown;
    l->size = size;
    return 0;
}

static int lfu_open(Lfu *l, uint32_t slots)
{
    *l = (Lfu){.free = NONE, .first = NONE};
    l->of = PyMem_RawMalloc(slots * sizeof(uint32_t));
    return l->of == NULL ? -1 : lfu_grow(l);
}

static void lfu_close(Lfu *l)
{
    PyMem_RawFree(l->of);
    PyMem_RawFree(l->buckets);
    *l = (Lfu){0};
}

/* At least one bucket to take, so that an insertion cannot fail half-way. */
static int lfu_reserve(Lfu *l) { return l->free != NONE ? 0 : lfu_grow(l); }

static uint32_t lfu_bucket_after(Lfu *l, uint32_t before, uint64_t uses)
{
    uint32_t b = l->free;
    l->free = l->buckets[b].next;
    uint32_t next = before == NONE ? l->first : l->buckets[before].next;
    l->buckets[b] = (Bucket){.uses = uses, .head = NONE, .tail = NONE, .prev = before, .next = next};
    if (before == NONE) {
        l->first = b;
    } else {
        l->buckets[before].next = b;
    }
    if (next != NONE) {
        l->buckets[next].prev = b;
    }
    return b;
}

static void lfu_push(Lfu *l, Node *nodes, uint32_t i, uint32_t b)
{
    Bucket *bucket = &l->buckets[b];
    l->of[i] = b;
    nodes[i].prev = NONE;
    nodes[i].next = bucket->head;
    if (bucket->head != NONE) {
        nodes[bucket->head].prev = i;
    } else {
        bucket->tail = i;
    }
    bucket->head = i;
}

/* Take the entry out of its list; the bucket stays, perhaps empty. */
static void lfu_unlink(Lfu *l, Node *nodes, uint32_t i)
{
    Bucket *bucket = &l->buckets[l->of[i]];
    if (nodes[i].prev != NONE) {
        nodes[nodes[i].prev].next = nodes[i].next;
    } else {
        bucket->head = nodes[i].next;
    }
    if (nodes[i].next != NONE) {
        nodes[nodes[i].next].prev = nodes[i].prev;
    } else {
        bucket->tail = nodes[i].prev;
    }
}

static void lfu_drop_if_empty(Lfu *l, uint32_t b)
{
    Bucket *bucket = &l->buckets[b];
    if (bucket->head != NONE) {
        return;
    }
    if (bucket->prev != NONE) {
        l->buckets[bucket->prev].next = bucket->next;
    } else {
        l->first = bucket->next;
    }
    if (bucket->next != NONE) {
        l->buckets[bucket->next].prev = bucket->prev;
    }
    bucket->next = l->free;
    l->free = b;
}

static void lfu_insert(Lfu *l, Node *nodes, uint32_t i)
{
    uint32_t first = l->first;
    if (first == NONE || l->buckets[first].uses != 1) {
        first = lfu_bucket_after(l, NONE, 1);
    }
    lfu_push(l, nodes, i, first);
}

static APART void lfu_touch(Lfu *l, Node *nodes, uint32_t i)
{
    uint32_t b = l->of[i], next = l->buckets[b].next;
    uint64_t uses = l->buckets[b].uses + 1;
    bool there = next != NONE && l->buckets[next].uses == uses;
    if (!there && l->buckets[b].head == l->buckets[b].tail) {
        l->buckets[b].uses = uses; /* alone in its bucket */
        return;
    }
    if (!there && lfu_reserve(l) < 0) {
        return; /* out of memory: the use is not counted */
    }
    lfu_unlink(l, nodes, i);
    lfu_push(l, nodes, i, there ? next : lfu_bucket_after(l, b, uses));
    lfu_drop_if_empty(l, b);
}

static void lfu_remove(Lfu *l, Node *nodes, uint32_t i)
{
    lfu_unlink(l, nodes, i);
    lfu_drop_if_empty(l, l->of[i]);
}

/* The least recently used of the least used, but not `keep` while there is another. */
static uint32_t lfu_victim(const Lfu *l, const Node *nodes, uint32_t keep)
{
    const Bucket *bucket = &l->buckets[l->first];
    if (bucket->tail != keep) {
        return bucket->tail;
    }
    if (nodes[keep].prev != NONE) {
        return nodes[keep].prev;
    }
    return bucket->next != NONE ? l->buckets[bucket->next].tail : keep;
}

#endif
