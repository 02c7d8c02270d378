/* Small caches without values that try every window size on a sample of the keys; the best one's size is used.
 *
 * A sampled key is known by its 32 bits alone: two keys that share them count as one here, and only here.
 */
#ifndef AUTOGLM_SHADOW_H
#define AUTOGLM_SHADOW_H

#include "sketch.h"

typedef struct {
    uint32_t hash;
    uint16_t prev, next, chain;
    uint8_t list;
} Ghost;

#define NODE Ghost
#define INDEX uint16_t
#define NIL UINT16_MAX
#define NAME(x) ghost_##x
#include "segments.h"
#undef NODE
#undef INDEX
#undef NIL
#undef NAME

#define NO_GHOST UINT16_MAX
#define GHOSTS_MAX 60000 /* in one shadow; links are 16 bits */
#define SHIFT_MIN 4      /* one key in 16, or fewer, is sampled */
#define EPOCH_MIN 64     /* samples between two decisions; otherwise as many as a shadow has entries */
#define MARGIN 128       /* a change must promise hits for more than 1/128 of the samples */
#define CANDIDATES 4
#define WHOLE_WINDOW 3 /* plain LRU; the choice until there is evidence */

static const uint8_t PERCENT[CANDIDATES] = {1, 15, 40, 100};

typedef struct {
    ghost_Segments segments;
    Ghost *ghosts;
    uint16_t *table;
    uint16_t count, fresh, free;
    uint32_t score;
} Shadow;

typedef struct {
    Shadow shadows[CANDIDATES];
    void *memory;
    size_t bytes;
    uint32_t shift, room, mask;
    uint32_t samples, epoch, total;
    uint32_t chosen;
} Shadows;

static void shadows_room(Shadows *s, uint32_t room)
{
    uint32_t scaled = room >> s->shift;
    s->room = scaled > 0 ? scaled : 1;
    for (int i = 0; i < CANDIDATES; i++) {
        ghost_retarget(&s->shadows[i].segments, s->room, PERCENT[i]);
    }
}

static int shadows_open(Shadows *s, uint32_t entries)
{
    memset(s, 0, sizeof(*s));
    s->shift = SHIFT_MIN;
    while (entries >> s->shift > GHOSTS_MAX) {
        s->shift++;
    }
    uint32_t nodes = (entries >> s->shift) + 2, buckets = power_of_two(nodes);
    size_t one = nodes * sizeof(Ghost) + buckets * sizeof(uint16_t);
    s->bytes = one * CANDIDATES;
    s->memory = PyMem_RawMalloc(s->bytes);
    if (s->memory == NULL) {
        return -1;
    }
    s->mask = buckets - 1;
    s->chosen = WHOLE_WINDOW;
    char *at = s->memory;
    for (int i = 0; i < CANDIDATES; i++, at += one) {
        Shadow *shadow = &s->shadows[i];
        ghost_reset(&shadow->segments);
        shadow->ghosts = (Ghost *)at;
        shadow->table = (uint16_t *)(at + nodes * sizeof(Ghost));
        shadow->free = NO_GHOST;
        memset(shadow->table, 0xFF, buckets * sizeof(uint16_t));
    }
    shadows_room(s, entries);
    s->epoch = s->room < EPOCH_MIN ? EPOCH_MIN : s->room;
    return 0;
}

static void shadow_drop(Shadow *s, uint32_t mask, uint16_t i)
{
    uint16_t *link = &s->table[s->ghosts[i].hash & mask];
    while (*link != i) {
        link = &s->ghosts[*link].chain;
    }
    *link = s->ghosts[i].chain;
    ghost_detach(&s->segments, s->ghosts, i);
    s->ghosts[i].chain = s->free;
    s->free = i;
    s->count--;
}

static inline void shadow_access(Shadow *s, uint32_t mask, uint32_t room, uint32_t hash, const Sketch *sketch)
{
    for (uint16_t i = s->table[hash & mask]; i != NO_GHOST; i = s->ghosts[i].chain) {
        if (s->ghosts[i].hash == hash) {
            s->score++;
            ghost_touch(&s->segments, s->ghosts, i);
            return;
        }
    }
    uint16_t i = s->free;
    if (i != NO_GHOST) {
        s->free = s->ghosts[i].chain;
    } else {
        i = s->fresh++;
    }
    s->ghosts[i] = (Ghost){.hash = hash, .chain = s->table[hash & mask]};
    s->table[hash & mask] = i;
    ghost_push(&s->segments, s->ghosts, i, WINDOW);
    s->count++;
    if (s->count <= room) {
        ghost_spill(&s->segments, s->ghosts, s->segments.window_target);
    }
    while (s->count > room) {
        shadow_drop(s, mask, ghost_victim(&s->segments, s->ghosts, sketch));
    }
}

/* True if another window size was chosen. */
static bool shadows_decide(Shadows *s)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < CANDIDATES; i++) {
        best = s->shadows[i].score > s->shadows[best].score ? i : best;
    }
    bool change = s->shadows[best].score > s->shadows[s->chosen].score + s->total / MARGIN;
    if (change) {
        s->chosen = best;
    }
    for (int i = 0; i < CANDIDATES; i++) {
        s->shadows[i].score /= 2;
    }
    s->total /= 2;
    s->samples = 0;
    return change;
}

static inline bool shadows_sampled(const Shadows *s, uint32_t hash)
{
    return remix(hash, UINT32_C(0xC2B2AE35)) >> (32 - s->shift) == 0;
}

static APART bool shadows_access(Shadows *s, uint32_t hash, const Sketch *sketch)
{
    for (int i = 0; i < CANDIDATES; i++) {
        shadow_access(&s->shadows[i], s->mask, s->room, hash, sketch);
    }
    s->total++;
    return ++s->samples >= s->epoch && shadows_decide(s);
}

#endif
