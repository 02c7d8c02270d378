/* How often a key was seen lately: a count-min sketch of 4-bit counters, halved when it has counted enough.
 *
 * Eight bytes (16 counters) per entry; the four counters of a key lie in one cache line (as in Caffeine 3).
 */
#ifndef AUTOGLM_SKETCH_H
#define AUTOGLM_SKETCH_H

#include "entry.h"

#define ROWS 4
#define BLOCK 8 /* words of 64 bits */
#define SAMPLES_PER_ENTRY 10

typedef struct {
    uint64_t *words;
    uint32_t blocks;
    uint64_t counted, limit;
} Sketch;

static int sketch_open(Sketch *s, uint32_t entries)
{
    s->blocks = (uint32_t)(((uint64_t)entries + BLOCK - 1) / BLOCK);
    s->blocks += s->blocks == 0;
    s->counted = 0;
    s->limit = (uint64_t)(entries > BLOCK ? entries : BLOCK) * SAMPLES_PER_ENTRY;
    s->words = PyMem_RawCalloc((size_t)s->blocks * BLOCK, sizeof(uint64_t));
    return s->words == NULL ? -1 : 0;
}

static inline uint64_t *sketch_block(const Sketch *s, uint32_t hash)
{
    return s->words + (((uint64_t)hash * s->blocks) >> 32) * BLOCK;
}

/* Row r uses 5 bits: one of two words, one of its 16 counters. */
static inline uint32_t sketch_choice(uint32_t hash) { return remix(hash, UINT32_C(0x85EBCA6B)) >> 12; }

static inline int sketch_frequency(const Sketch *s, uint32_t hash)
{
    const uint64_t *block = sketch_block(s, hash);
    uint32_t choice = sketch_choice(hash);
    int lowest = 15;
    for (int row = 0; row < ROWS; row++, choice >>= 5) {
        int count = (int)((block[2 * row + (choice & 1)] >> ((choice >> 1 & 15) * 4)) & 15);
        lowest = count < lowest ? count : lowest;
    }
    return lowest;
}

static SELDOM void sketch_halve(Sketch *s)
{
    for (size_t i = 0; i < (size_t)s->blocks * BLOCK; i++) {
        s->words[i] = (s->words[i] >> 1) & UINT64_C(0x7777777777777777);
    }
    s->counted /= 2;
}

/* One more use; `uses` of all have passed since the last one that was counted. */
static inline void sketch_count(Sketch *s, uint32_t hash, uint64_t uses)
{
    uint64_t *block = sketch_block(s, hash);
    uint32_t choice = sketch_choice(hash);
    for (int row = 0; row < ROWS; row++, choice >>= 5) {
        uint64_t *word = &block[2 * row + (choice & 1)];
        uint32_t shift = (choice >> 1 & 15) * 4;
        *word += (uint64_t)((*word >> shift & 15) != 15) << shift;
    }
    s->counted += uses;
    if (s->counted >= s->limit) {
        sketch_halve(s);
    }
}

#endif
