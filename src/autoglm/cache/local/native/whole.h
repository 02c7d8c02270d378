/* Operations on the whole cache, and what it tells about itself. Included by slab.c. */
#ifndef AUTOGLM_WHOLE_H
#define AUTOGLM_WHOLE_H

static uint64_t limit_of(long long max_weight) { return max_weight < 0 ? UINT64_MAX : (uint64_t)max_weight; }

/* All slots in the order they would leave (PyMem_RawFree it); NULL with an error set without memory. */
static uint32_t *order_of(const Cache *c)
{
    uint32_t *order = PyMem_RawMalloc(((size_t)c->store.count + 1) * sizeof(uint32_t));
    if (order == NULL) {
        PyErr_NoMemory();
    } else if (c->store.count > 0) {
        policy_order(&c->store, c->policy, order);
    }
    return order;
}

static PyObject *cache_clear(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Cache *c = (Cache *)self;
    uint32_t count = c->store.count, *order;
    Grave g;
    grave_open(&g);
    if (grave_reserve(&g, count) < 0 || (order = order_of(c)) == NULL) {
        return bury(c, &g) < 0 ? NULL : PyErr_NoMemory();
    }
    for (uint32_t k = 0; k < count; k++) {
        take_out(c, order[k], EXPLICIT, 0, &g);
    }
    PyMem_RawFree(order);
    if (bury(c, &g) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Take out everything that has expired; returns how many. */
static PyObject *cache_purge(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Cache *c = (Cache *)self;
    int64_t ticks;
    if (now(c, &ticks) < 0) {
        return NULL;
    }
    Store *s = &c->store;
    uint32_t expired = 0;
    for (uint32_t i = 0; i < s->fresh; i++) {
        expired += s->slab[i].key != NULL && entry_expired(&s->slab[i], ticks);
    }
    Grave g;
    grave_open(&g);
    if (grave_reserve(&g, expired) < 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < s->fresh; i++) {
        if (s->slab[i].key != NULL && entry_expired(&s->slab[i], ticks)) {
            take_out(c, i, EXPIRED, ticks, &g);
        }
    }
    return bury(c, &g) < 0 ? NULL : PyLong_FromUnsignedLong(expired);
}

/* Move all entries to the new store, slots numbered in the order they would leave. */
static void move_entries(Cache *c, Store *to, const uint32_t *order)
{
    Store *from = &c->store;
    uint32_t tail = NONE; /* the last bucket made */
    for (uint32_t k = 0; k < from->count; k++) {
        Entry *e = &to->slab[k];
        Node *n = &to->nodes[k];
        *e = from->slab[order[k]];
        *n = from->nodes[order[k]];
        n->chain = to->table[n->hash >> to->shift];
        to->table[n->hash >> to->shift] = k;
        if (c->policy == POLICY_LFU) {
            uint64_t uses = from->lfu.buckets[from->lfu.of[order[k]]].uses;
            if (tail == NONE || to->lfu.buckets[tail].uses != uses) {
                tail = lfu_bucket_after(&to->lfu, tail, uses);
            }
            lfu_push(&to->lfu, to->nodes, k, tail);
        } else {
            main_push(&to->segments, to->nodes, k, (enum segment)n->list);
        }
    }
    to->count = to->fresh = from->count;
    to->weight = from->weight;
}

static PyObject *cache_resize(PyObject *self, PyObject *args)
{
    Cache *c = (Cache *)self;
    long long max_entries, max_weight;
    int64_t ticks;
    if (!PyArg_ParseTuple(args, "LL", &max_entries, &max_weight) || now(c, &ticks) < 0) {
        return NULL;
    }
    if (!c->ready || max_entries < 0 || max_entries > ENTRIES_MAX || max_weight < -1) {
        PyErr_SetString(PyExc_ValueError, "max_entries or max_weight is out of range");
        return NULL;
    }
    Store fresh;
    if (store_open(&fresh, (uint32_t)max_entries, limit_of(max_weight), c->policy) < 0) {
        return NULL;
    }
    while (c->policy == POLICY_LFU && fresh.lfu.size < c->store.lfu.size) {
        if (lfu_grow(&fresh.lfu) < 0) {
            store_close(&fresh);
            return PyErr_NoMemory();
        }
    }
    Grave g;
    grave_open(&g);
    if (fresh.capacity < c->store.capacity) {
        c->store.capacity = fresh.capacity;
    }
    c->store.max_weight = fresh.max_weight;
    uint32_t *order = shrink(c, NONE, ticks, &g) < 0 ? NULL : order_of(c);
    if (order != NULL) {
        move_entries(c, &fresh, order);
        fresh.shadows.chosen = c->store.shadows.chosen;
        store_retarget(&fresh, c->policy);
        PyMem_RawFree(order);
        Store old = c->store;
        c->store = fresh;
        c->version++;
        fresh = old;
    }
    store_close(&fresh);
    if (bury(c, &g) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* [(key, value, age in us, ttl in ms or -1, weight)], in the order they would leave, without what has expired. */
static PyObject *cache_snapshot(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Cache *c = (Cache *)self;
    int64_t ticks;
    if (now(c, &ticks) < 0) {
        return NULL;
    }
    uint32_t *order = order_of(c), count = 0;
    Entry *copy = order == NULL ? NULL : PyMem_RawMalloc(((size_t)c->store.count + 1) * sizeof(Entry));
    if (copy == NULL) {
        PyMem_RawFree(order);
        return PyErr_NoMemory();
    }
    /* Making tuples may start the collector and with it any finaliser: hold everything first. */
    for (uint32_t k = 0; k < c->store.count; k++) {
        Entry *e = &c->store.slab[order[k]];
        if (!entry_expired(e, ticks)) {
            Py_INCREF(e->key);
            Py_INCREF(e->value);
            copy[count++] = *e;
        }
    }
    PyMem_RawFree(order);
    PyObject *list = PyList_New(count);
    for (uint32_t k = 0; k < count; k++) {
        Entry *e = &copy[k];
        if (list != NULL) {
            long long age = ticks - (int64_t)e->written;
            PyObject *row = Py_BuildValue("(OOLLK)", e->key, e->value, age > 0 ? age : 0,
                                          e->ttl == FOREVER ? -1LL : (long long)e->ttl,
                                          (unsigned long long)entry_weight(e));
            if (row == NULL) {
                Py_CLEAR(list);
            } else {
                PyList_SET_ITEM(list, k, row);
            }
        }
    }
    for (uint32_t k = 0; k < count; k++) {
        Py_DECREF(copy[k].key);
        Py_DECREF(copy[k].value);
    }
    PyMem_RawFree(copy);
    return list;
}

/* (hits, misses, inserts, loads, load failures, load seconds, hit age us, removed age us, weight, (removed by cause)) */
static PyObject *cache_counters(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Statistics *t = &((Cache *)self)->statistics;
    return Py_BuildValue("(KKKKKdKKK(KKKKK))", t->hits, t->misses, t->inserts, t->loads, t->load_failures,
                         t->load_seconds, t->hit_age, t->removed_age, ((Cache *)self)->store.weight, t->removed[0],
                         t->removed[1], t->removed[2], t->removed[3], t->removed[4]);
}

static PyObject *cache_loaded(PyObject *self, PyObject *args)
{
    Cache *c = (Cache *)self;
    double seconds;
    int failed;
    if (!PyArg_ParseTuple(args, "dp", &seconds, &failed)) {
        return NULL;
    }
    if (c->counting) {
        c->statistics.loads++;
        c->statistics.load_failures += (uint64_t)failed;
        c->statistics.load_seconds += seconds;
    }
    Py_RETURN_NONE;
}

static PyObject *cache_limits(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Store *s = &((Cache *)self)->store;
    return Py_BuildValue("(IL)", s->capacity, s->max_weight == UINT64_MAX ? -1LL : (long long)s->max_weight);
}

/* (window, probation, protected, window target, room): what the adaptive policy has made of itself. */
static PyObject *cache_segments(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Store *s = &((Cache *)self)->store;
    const main_List *lists = s->segments.lists;
    return Py_BuildValue("(IIIII)", lists[WINDOW].length, lists[PROBATION].length, lists[PROTECTED].length,
                         s->segments.window_target, s->room);
}

static PyObject *cache_sizeof(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Store *s = &((Cache *)self)->store;
    size_t bytes = (size_t)Py_TYPE(self)->tp_basicsize + SLOT_BYTES * s->capacity;
    bytes += s->slab == NULL ? 0 : SLOT_BYTES + sizeof(uint32_t) * ((size_t)1 << (32 - s->shift));
    bytes += s->lfu.of == NULL ? 0 : sizeof(uint32_t) * ((size_t)s->capacity + 1) + sizeof(Bucket) * s->lfu.size;
    bytes += s->sketch.words == NULL ? 0 : sizeof(uint64_t) * BLOCK * s->sketch.blocks;
    return PyLong_FromSize_t(bytes + s->shadows.bytes);
}

#endif
