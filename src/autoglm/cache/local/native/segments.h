/* Window, probation and protected: three lists over a slab of nodes (W-TinyLFU's segmented LRU).
 *
 * A template, included once for the cache's entries and once for the shadows' small nodes. Parameters:
 * NODE (has prev, next, list, hash), INDEX (unsigned type of a slot number), NIL (no slot), NAME(x) (prefix of names).
 */

#ifndef AUTOGLM_SEGMENTS_ONCE
#define AUTOGLM_SEGMENTS_ONCE
enum segment { WINDOW, PROBATION, PROTECTED, SEGMENTS };
#define SPILL 4 /* entries that leave a shrunken window per eviction: keeps each call O(1) */
#endif

typedef struct {
    INDEX head, tail, length;
} NAME(List);

typedef struct {
    NAME(List) lists[SEGMENTS];
    uint32_t window_target, protected_target;
} NAME(Segments);

static void NAME(reset)(NAME(Segments) *s)
{
    for (int i = 0; i < SEGMENTS; i++) {
        s->lists[i] = (NAME(List)){NIL, NIL, 0};
    }
}

/* The window gets `percent` of `room` entries, at least one; protected at most four fifths of the rest. */
static void NAME(retarget)(NAME(Segments) *s, uint32_t room, uint32_t percent)
{
    uint32_t window = (uint32_t)((uint64_t)room * percent / 100);
    s->window_target = window > 0 ? window : 1;
    s->protected_target = room > s->window_target ? (uint32_t)((uint64_t)(room - s->window_target) * 4 / 5) : 0;
}

static inline void NAME(detach)(NAME(Segments) *s, NODE *nodes, INDEX i)
{
    NODE *n = &nodes[i];
    NAME(List) *list = &s->lists[n->list];
    if (n->prev != NIL) {
        nodes[n->prev].next = n->next;
    } else {
        list->head = n->next;
    }
    if (n->next != NIL) {
        nodes[n->next].prev = n->prev;
    } else {
        list->tail = n->prev;
    }
    list->length--;
}

static inline void NAME(push)(NAME(Segments) *s, NODE *nodes, INDEX i, enum segment to)
{
    NAME(List) *list = &s->lists[to];
    nodes[i].list = to;
    nodes[i].prev = NIL;
    nodes[i].next = list->head;
    if (list->head != NIL) {
        nodes[list->head].prev = i;
    } else {
        list->tail = i;
    }
    list->head = i;
    list->length++;
}

static inline void NAME(move)(NAME(Segments) *s, NODE *nodes, INDEX i, enum segment to)
{
    if (s->lists[to].head != i) {
        NAME(detach)(s, nodes, i);
        NAME(push)(s, nodes, i, to);
    }
}

/* A hit. While the window has not reached its size, what is hit in the main part moves into it. */
static inline void NAME(touch)(NAME(Segments) *s, NODE *nodes, INDEX i)
{
    enum segment list = (enum segment)nodes[i].list;
    if (list == WINDOW) {
        NAME(move)(s, nodes, i, WINDOW);
    } else if (s->lists[WINDOW].length < s->window_target) {
        NAME(move)(s, nodes, i, WINDOW);
    } else {
        NAME(move)(s, nodes, i, PROTECTED);
        if (s->lists[PROTECTED].length > s->protected_target) {
            NAME(move)(s, nodes, s->lists[PROTECTED].tail, PROBATION);
        }
    }
}

/* Move what is over the window's size into probation, a few at a time. */
static inline void NAME(spill)(NAME(Segments) *s, NODE *nodes, uint32_t target)
{
    for (int moved = 0; moved < SPILL && s->lists[WINDOW].length > target; moved++) {
        NAME(move)(s, nodes, s->lists[WINDOW].tail, PROBATION);
    }
}

static inline INDEX NAME(coldest)(const NAME(Segments) *s)
{
    INDEX i = s->lists[PROBATION].tail;
    return i != NIL ? i : s->lists[PROTECTED].tail;
}

/* Which entry goes; NIL if there is none. The window's oldest must be more frequent than the main part's to stay. */
static INDEX NAME(victim)(NAME(Segments) *s, NODE *nodes, const Sketch *sketch)
{
    if (sketch != NULL) {
        NAME(spill)(s, nodes, s->window_target + 1);
    }
    INDEX candidate = s->lists[WINDOW].tail, coldest = NAME(coldest)(s);
    if (coldest == NIL) {
        return candidate;
    }
    if (candidate == NIL || s->lists[WINDOW].length <= s->window_target) {
        return coldest;
    }
    if (sketch_frequency(sketch, nodes[candidate].hash) > sketch_frequency(sketch, nodes[coldest].hash)) {
        NAME(move)(s, nodes, candidate, PROBATION);
        return coldest;
    }
    return candidate;
}
