/* What is done to the cache. The rule that keeps it safe from keys, values and listeners that call back:
 *
 *   Python code runs only in `find` (which checks the version afterwards and starts again), before the first change
 *   (hash, clock, weigher) and after the last one (`bury`: listener, last references). What leaves the cache is
 *   collected in a Grave meanwhile. Nothing here allocates an object the collector tracks, which could run it.
 */
#ifndef AUTOGLM_OPERATIONS_H
#define AUTOGLM_OPERATIONS_H

#include "cache.h"

typedef struct {
    PyObject *key, *value;
    enum cause cause;
} Removed;

#define GRAVE_INLINE 4
#define ROOM_STEP 16 /* how far the number of entries that fit may drift before the policy's sizes follow it */

typedef struct {
    Removed *items;
    size_t length, room;
    Removed inlined[GRAVE_INLINE];
} Grave;

static inline void grave_open(Grave *g)
{
    g->items = g->inlined;
    g->length = 0;
    g->room = GRAVE_INLINE;
}

/* Room for `more`, so that what follows cannot fail. */
static SELDOM int grave_grow(Grave *g, size_t more);

static inline int grave_reserve(Grave *g, size_t more)
{
    return g->length + more <= g->room ? 0 : grave_grow(g, more);
}

static SELDOM int grave_grow(Grave *g, size_t more)
{
    size_t room = g->room * 2 > g->length + more ? g->room * 2 : g->length + more;
    Removed *old = g->items == g->inlined ? NULL : g->items;
    Removed *grown = PyMem_RawRealloc(old, room * sizeof(Removed));
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (old == NULL) {
        memcpy(grown, g->inlined, g->length * sizeof(Removed));
    }
    g->items = grown;
    g->room = room;
    return 0;
}

static inline void grave_add(Grave *g, PyObject *key, PyObject *value, enum cause cause)
{
    g->items[g->length++] = (Removed){key, value, cause};
}

#if PY_VERSION_HEX >= 0x030C0000
static PyObject *take_error(void) { return PyErr_GetRaisedException(); }
static void set_error(PyObject *error) { PyErr_SetRaisedException(error); }
#else
static PyObject *take_error(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (type != NULL) {
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL) {
            PyException_SetTraceback(error, traceback);
        }
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}
static void set_error(PyObject *error)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
}
#endif

/* Tell the listener, then let go, in the order of removal. An error of the listener does not stop the rest; the last
 * one is raised. An error that is set already stays. Returns -1 if one is set at the end. */
static SELDOM int bury_with_listener(Cache *c, Grave *g);

static inline int bury(Cache *c, Grave *g)
{
    if (g->length == 0) {
        return 0;
    }
    if (c->listener != NULL || g->length > GRAVE_INLINE || g->items != g->inlined || PyErr_Occurred()) {
        return bury_with_listener(c, g);
    }
    for (size_t k = 0; k < g->length; k++) {
        Py_DECREF(g->items[k].key);
        Py_DECREF(g->items[k].value);
    }
    return 0;
}

static SELDOM int bury_with_listener(Cache *c, Grave *g)
{
    PyObject *error = take_error();
    PyObject *listener = Py_XNewRef(c->listener), *causes = Py_XNewRef(c->causes);
    for (size_t k = 0; k < g->length; k++) {
        Removed *r = &g->items[k];
        if (listener != NULL && causes != NULL) {
            PyObject *arguments[] = {r->key, r->value, PyTuple_GET_ITEM(causes, r->cause)};
            PyObject *done = PyObject_Vectorcall(listener, arguments, 3, NULL);
            if (done == NULL) {
                Py_XDECREF(error);
                error = take_error();
            }
            Py_XDECREF(done);
        }
        Py_DECREF(r->key);
        Py_DECREF(r->value);
    }
    Py_XDECREF(listener);
    Py_XDECREF(causes);
    if (g->items != g->inlined) {
        PyMem_RawFree(g->items);
    }
    g->length = 0;
    if (error == NULL) {
        return 0;
    }
    set_error(error);
    return -1;
}

/* `now` of a clock that was given. */
static APART int now_by_python(const Cache *c, int64_t *ticks)
{
    PyObject *clock = Py_NewRef(c->clock);
    PyObject *read = PyObject_CallNoArgs(clock);
    Py_DECREF(clock);
    double seconds = read == NULL ? -1.0 : PyFloat_AsDouble(read);
    Py_XDECREF(read);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!isfinite(seconds)) {
        PyErr_SetString(PyExc_ValueError, "the clock did not return a finite number of seconds");
        return -1;
    }
    double t = (seconds - c->epoch) * 1e6;
    *ticks = t <= 0 ? 0 : t >= (double)TICKS_MAX ? TICKS_MAX : (int64_t)t;
    return 0;
}

/* Microseconds since the cache was made; a clock that went back before that reads as zero. */
static inline int now(const Cache *c, int64_t *ticks)
{
    if (c->clock == NULL) {
        struct timespec t;
#ifdef CLOCK_MONOTONIC_COARSE
        clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
#else
        clock_gettime(CLOCK_MONOTONIC, &t);
#endif
        *ticks = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 - c->start;
        return 0;
    }
    return now_by_python(c, ticks);
}
static inline bool same_words(const char *a, const char *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x == y;
}

/* Keys are short: comparing words in place (the last may overlap the one before) is quicker than a call. */
static inline bool same_bytes(const void *a, const void *b, size_t length)
{
    const char *x = a, *y = b;
    if (length < 8 || length > 64) {
        return memcmp(x, y, length) == 0;
    }
    for (size_t at = 0; at + 8 < length; at += 8) {
        if (!same_words(x + at, y + at)) {
            return false;
        }
    }
    return same_words(x + length - 8, y + length - 8);
}

/* Whether two keys of the plain types are equal, without running Python code: 1, 0, or -1 for "ask Python". */
static inline int equal_plain(PyObject *a, PyObject *b)
{
    if (Py_TYPE(a) != Py_TYPE(b)) {
        return -1;
    }
    if (PyLong_CheckExact(a)) {
#if PY_VERSION_HEX >= 0x030C0000
        PyLongObject *x = (PyLongObject *)a, *y = (PyLongObject *)b;
        if (PyUnstable_Long_IsCompact(x) && PyUnstable_Long_IsCompact(y)) {
            return PyUnstable_Long_CompactValue(x) == PyUnstable_Long_CompactValue(y);
        }
        return -1;
#else
        size_t digits = (size_t)(Py_SIZE(a) < 0 ? -Py_SIZE(a) : Py_SIZE(a));
        return Py_SIZE(a) == Py_SIZE(b) && same_bytes(((PyLongObject *)a)->ob_digit, ((PyLongObject *)b)->ob_digit,
                                                      digits * sizeof(digit));
#endif
    }
    if (PyUnicode_CheckExact(a)) {
        if (PyUnicode_IS_COMPACT_ASCII(a) && PyUnicode_IS_COMPACT_ASCII(b)) {
            size_t length = (size_t)PyUnicode_GET_LENGTH(a);
            return (size_t)PyUnicode_GET_LENGTH(b) == length &&
                   same_bytes((PyASCIIObject *)a + 1, (PyASCIIObject *)b + 1, length);
        }
        return PyUnicode_GET_LENGTH(a) == PyUnicode_GET_LENGTH(b) && PyUnicode_KIND(a) == PyUnicode_KIND(b) &&
               same_bytes(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)PyUnicode_GET_LENGTH(a) * PyUnicode_KIND(a));
    }
    if (PyBytes_CheckExact(a)) {
        return PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b) &&
               same_bytes(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), (size_t)PyBytes_GET_SIZE(a));
    }
    return -1;
}

#define CHANGED 2

/* 1, 0, -1 with an error set, or CHANGED if entries came or went meanwhile. */
static APART int equal_by_python(Cache *c, PyObject *stored, PyObject *key)
{
    uint64_t version = c->version;
    PyObject *held = Py_NewRef(stored);
    int same = PyObject_RichCompareBool(held, key, Py_EQ);
    Py_DECREF(held);
    return same >= 0 && version != c->version ? CHANGED : same;
}

/* PyObject_Hash without the calls, where the type is plain. */
static inline Py_hash_t hash_of(PyObject *key)
{
    if (PyUnicode_CheckExact(key)) {
        Py_hash_t known = ((PyASCIIObject *)key)->hash;
        if (known != -1) {
            return known;
        }
    } else if (PyLong_CheckExact(key)) {
#if PY_VERSION_HEX >= 0x030C0000
        if (PyUnstable_Long_IsCompact((PyLongObject *)key)) {
            Py_ssize_t value = PyUnstable_Long_CompactValue((PyLongObject *)key);
            return value == -1 ? -2 : value;
        }
#else
        if (Py_SIZE(key) == 1) {
            return (Py_hash_t)((PyLongObject *)key)->ob_digit[0];
        }
#endif
    }
    return PyObject_Hash(key);
}

/* Slot of the key, or NONE; -1 with an error set if comparing failed. */
static inline int find(Cache *c, PyObject *key, uint32_t hash, uint32_t *slot)
{
again:;
    uint32_t i = c->store.table[hash >> c->store.shift];
    while (i != NONE) {
        if (c->store.nodes[i].hash == hash) {
            Entry *e = &c->store.slab[i];
            int same = e->key == key ? 1 : equal_plain(e->key, key);
            if (same < 0) {
                same = equal_by_python(c, e->key, key);
                if (same == CHANGED) {
                    goto again;
                }
                if (same < 0) {
                    return -1;
                }
            }
            if (same) {
                break;
            }
        }
        i = c->store.nodes[i].chain;
    }
    *slot = i;
    return 0;
}

/* Out of table, policy and sums, into the grave (which has room). The slot is free again. */
static void take_out(Cache *c, uint32_t i, enum cause cause, int64_t ticks, Grave *g)
{
    Store *s = &c->store;
    Entry *e = &s->slab[i];
    Node *n = &s->nodes[i];
    uint32_t *link = &s->table[n->hash >> s->shift];
    while (*link != i) {
        link = &s->nodes[*link].chain;
    }
    *link = n->chain;
    policy_remove(s, c->policy, i);
    grave_add(g, e->key, e->value, cause);
    s->weight -= entry_weight(e);
    if (c->counting) {
        c->statistics.removed[cause]++;
        if (cause >= SIZE && ticks > (int64_t)e->written) {
            c->statistics.removed_age += (uint64_t)(ticks - (int64_t)e->written);
        }
    }
    e->key = e->value = NULL;
    n->next = s->free;
    s->free = i;
    s->count--;
    c->version++;
}

static inline void set_payload(Store *s, Entry *e, PyObject *value, int64_t ticks, uint32_t ttl, uint64_t weight)
{
    e->value = Py_NewRef(value);
    e->written = (uint64_t)ticks;
    e->ttl = ttl;
    e->weight_low = (uint32_t)weight;
    e->weight_high = (uint16_t)(weight >> 32);
    s->weight += weight;
}

/* Evict until both limits hold; true if `keep` is still there. -1 without memory (the limits may not hold then). */
static int shrink(Cache *c, uint32_t keep, int64_t ticks, Grave *g)
{
    Store *s = &c->store;
    int kept = 1;
    while (s->count > s->capacity || s->weight > s->max_weight) {
        if (grave_reserve(g, 1) < 0) {
            return -1;
        }
        enum cause cause = s->count > s->capacity ? SIZE : WEIGHT;
        uint32_t i = policy_victim(s, c->policy, keep);
        kept &= i != keep;
        take_out(c, i, entry_expired(&s->slab[i], ticks) ? EXPIRED : cause, ticks, g);
        if (cause == WEIGHT && s->count < s->room - s->room / ROOM_STEP) {
            store_set_room(s, c->policy, s->count);
        }
    }
    return kept;
}

/* One slot of the slab per insertion: what nobody asks for again leaves in time, whatever the policy thinks of it. */
static inline void crawl(Cache *c, int64_t ticks, Grave *g)
{
    Store *s = &c->store;
    if (s->fresh > 0) {
        s->hand = s->hand + 1 < s->fresh ? s->hand + 1 : 0;
        Entry *e = &s->slab[s->hand];
        if (e->key != NULL && entry_expired(e, ticks)) {
            take_out(c, s->hand, EXPIRED, ticks, g);
        }
    }
}

static uint32_t insert(Cache *c, PyObject *key, PyObject *value, uint32_t hash, int64_t ticks, uint32_t ttl,
                       uint64_t weight)
{
    Store *s = &c->store;
    uint32_t i = s->free;
    if (i != NONE) {
        s->free = s->nodes[i].next;
    } else {
        i = s->fresh++;
    }
    Entry *e = &s->slab[i];
    e->key = Py_NewRef(key);
    s->nodes[i].hash = hash;
    s->nodes[i].chain = s->table[hash >> s->shift];
    s->table[hash >> s->shift] = i;
    set_payload(s, e, value, ticks, ttl, weight);
    policy_insert(s, c->policy, i);
    s->count++;
    c->version++;
    if (s->count > s->room && s->room < s->capacity) {
        uint32_t wider = s->count + s->count / ROOM_STEP;
        store_set_room(s, c->policy, wider < s->capacity ? wider : s->capacity);
    }
    return i;
}

#endif
