/* autoglm.cache.local._slab: the first-level cache as an extension type. See docs/caches/local.md. */

#include "operations.h"

#define MODULE "autoglm.cache.local._slab"

/* --- look-up ------------------------------------------------------------------------------------------------- */

static SELDOM void expire(Cache *c, uint32_t i, int64_t ticks)
{
    Grave g;
    grave_open(&g);
    c->statistics.misses += (uint64_t)c->counting;
    take_out(c, i, EXPIRED, ticks, &g);
    bury(c, &g);
}

/* The value (a new reference), or NULL without an error if it is not there. `use`: count it as an access. */
static inline PyObject *fetch(Cache *c, PyObject *key, bool use)
{
    Py_hash_t raw = hash_of(key);
    int64_t ticks;
    uint32_t hash, i;
    if (raw == -1 || now(c, &ticks) < 0) {
        return NULL;
    }
    hash = mix(raw);
    if (find(c, key, hash, &i) < 0) {
        return NULL;
    }
    Store *s = &c->store;
    if (i == NONE) {
        c->statistics.misses += (uint64_t)(use && c->counting);
        return NULL;
    }
    Entry *e = &s->slab[i];
    if (entry_expired(e, ticks)) {
        if (use) {
            expire(c, i, ticks);
        }
        return NULL;
    }
    PyObject *value = Py_NewRef(e->value);
    if (use) {
        if (c->counting) {
            c->statistics.hits++;
            c->statistics.hit_age += ticks > (int64_t)e->written ? (uint64_t)(ticks - (int64_t)e->written) : 0;
        }
        policy_count(s, c->policy, hash);
        policy_touch(s, c->policy, i);
    }
    return value;
}

static PyObject *fetch_or_default(PyObject *self, PyObject *const *args, Py_ssize_t count, bool use)
{
    if (count < 1 || count > 2) {
        return PyErr_Format(PyExc_TypeError, "expected key and default, got %zd arguments", count);
    }
    PyObject *value = fetch((Cache *)self, args[0], use);
    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    return Py_NewRef(count == 2 ? args[1] : Py_None);
}

static PyObject *cache_get(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return fetch_or_default(self, args, count, true);
}

static PyObject *cache_peek(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return fetch_or_default(self, args, count, false);
}

static PyObject *cache_subscript(PyObject *self, PyObject *key)
{
    PyObject *value = fetch((Cache *)self, key, true);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return value;
}

static int cache_contains(PyObject *self, PyObject *key)
{
    PyObject *value = fetch((Cache *)self, key, false);
    if (value == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_DECREF(value);
    return 1;
}

static Py_ssize_t cache_length(PyObject *self) { return ((Cache *)self)->store.count; }

/* --- storing ------------------------------------------------------------------------------------------------- */

static int parse_ttl(const Cache *c, PyObject *given, uint32_t *ttl)
{
    *ttl = c->default_ttl;
    if (given == NULL || given == Py_None) {
        return 0;
    }
    double seconds = PyFloat_AsDouble(given);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    double milliseconds = ceil(seconds * 1000.0);
    if (isinf(seconds) && seconds > 0) {
        *ttl = FOREVER;
    } else if (milliseconds >= 1.0 && milliseconds < (double)FOREVER) {
        *ttl = (uint32_t)milliseconds;
    } else {
        PyErr_Format(PyExc_ValueError, "ttl must be above 0 and below 4294967 seconds, or infinite, got %R", given);
        return -1;
    }
    return 0;
}

static int parse_weight(const Cache *c, PyObject *key, PyObject *value, PyObject *given, uint64_t *weight)
{
    *weight = 0;
    PyObject *weighed = NULL;
    if (given == NULL || given == Py_None) {
        if (c->weigher == NULL) {
            return 0;
        }
        PyObject *weigher = Py_NewRef(c->weigher), *arguments[] = {key, value};
        weighed = given = PyObject_Vectorcall(weigher, arguments, 2, NULL);
        Py_DECREF(weigher);
        if (given == NULL) {
            return -1;
        }
    }
    int overflow;
    long long bytes = PyLong_AsLongLongAndOverflow(given, &overflow);
    bool failed = bytes == -1 && PyErr_Occurred();
    if (!failed && (overflow != 0 || bytes < 0 || bytes > WEIGHT_MAX)) {
        PyErr_Format(PyExc_ValueError, "weight must be 0 to 281474976710655 bytes, got %R", given);
        failed = true;
    }
    *weight = (uint64_t)bytes;
    Py_XDECREF(weighed);
    return failed ? -1 : 0;
}

/* The part of a put that runs no Python code: `i` is the key's slot or NONE. 1: stored, 0: not, -1: no memory. */
static int store_entry(Cache *c, uint32_t i, PyObject *key, PyObject *value, uint32_t hash, int64_t ticks, uint32_t ttl,
                       uint64_t weight, Grave *g)
{
    Store *s = &c->store;
    if (grave_reserve(g, 3) < 0 || (c->policy == POLICY_LFU && lfu_reserve(&s->lfu) < 0)) {
        PyErr_NoMemory();
        return -1;
    }
    bool heavy = weight > s->max_weight;
    if (i != NONE && (heavy || entry_expired(&s->slab[i], ticks))) {
        take_out(c, i, entry_expired(&s->slab[i], ticks) ? EXPIRED : REPLACED, ticks, g);
        i = NONE;
    }
    c->statistics.inserts += (uint64_t)c->counting;
    if (heavy) {
        grave_add(g, Py_NewRef(key), Py_NewRef(value), WEIGHT);
        c->statistics.removed[WEIGHT] += (uint64_t)c->counting;
        return 0;
    }
    policy_count(s, c->policy, hash);
    if (i != NONE) {
        Entry *e = &s->slab[i];
        grave_add(g, Py_NewRef(e->key), e->value, REPLACED);
        c->statistics.removed[REPLACED] += (uint64_t)c->counting;
        s->weight -= entry_weight(e);
        set_payload(s, e, value, ticks, ttl, weight);
        policy_touch(s, c->policy, i);
    } else {
        crawl(c, ticks, g);
        i = insert(c, key, value, hash, ticks, ttl, weight);
    }
    if (s->count > s->capacity || s->weight > s->max_weight) {
        return shrink(c, i, ticks, g);
    }
    if (c->policy == POLICY_ADAPTIVE) {
        main_spill(&s->segments, s->nodes, s->segments.window_target);
    }
    return 1;
}

static int put(Cache *c, PyObject *key, PyObject *value, PyObject *given_ttl, PyObject *given_weight)
{
    if (!c->ready) {
        PyErr_SetString(PyExc_RuntimeError, "the cache was not initialised, or is being collected");
        return -1;
    }
    Py_hash_t raw = hash_of(key);
    int64_t ticks;
    uint32_t ttl, i;
    uint64_t weight;
    if (raw == -1 || now(c, &ticks) < 0 || parse_ttl(c, given_ttl, &ttl) < 0 ||
        parse_weight(c, key, value, given_weight, &weight) < 0) {
        return -1;
    }
    uint32_t hash = mix(raw);
    if (find(c, key, hash, &i) < 0) {
        return -1;
    }
    if (!c->ready) {
        PyErr_SetString(PyExc_RuntimeError, "the cache is being collected");
        return -1;
    }
    Grave g;
    grave_open(&g);
    int stored = store_entry(c, i, key, value, hash, ticks, ttl, weight, &g);
    return bury(c, &g) < 0 ? -1 : stored;
}

static PyObject *cache_put(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *options[2] = {NULL, NULL}; /* ttl, weight */
    if (count < 2 || count > 4) {
        return PyErr_Format(PyExc_TypeError, "put takes key, value, ttl and weight, got %zd arguments", count);
    }
    for (Py_ssize_t k = 2; k < count; k++) {
        options[k - 2] = args[k];
    }
    for (Py_ssize_t k = 0; names != NULL && k < PyTuple_GET_SIZE(names); k++) {
        PyObject *name = PyTuple_GET_ITEM(names, k);
        int which = PyUnicode_CompareWithASCIIString(name, "ttl") == 0      ? 0
                    : PyUnicode_CompareWithASCIIString(name, "weight") == 0 ? 1
                                                                            : -1;
        if (which < 0 || options[which] != NULL) {
            return PyErr_Format(PyExc_TypeError, "put got an unexpected or repeated argument %R", name);
        }
        options[which] = args[count + k];
    }
    int stored = put((Cache *)self, args[0], args[1], options[0], options[1]);
    return stored < 0 ? NULL : PyBool_FromLong(stored);
}

/* 1: was there, 0: was not, -1: error. */
static int discard(Cache *c, PyObject *key)
{
    Py_hash_t raw = hash_of(key);
    int64_t ticks;
    uint32_t i;
    if (raw == -1 || now(c, &ticks) < 0 || find(c, key, mix(raw), &i) < 0) {
        return -1;
    }
    if (i == NONE) {
        return 0;
    }
    Grave g;
    grave_open(&g);
    bool expired = entry_expired(&c->store.slab[i], ticks);
    take_out(c, i, expired ? EXPIRED : EXPLICIT, ticks, &g);
    return bury(c, &g) < 0 ? -1 : !expired;
}

static PyObject *cache_remove(PyObject *self, PyObject *key)
{
    int found = discard((Cache *)self, key);
    return found < 0 ? NULL : PyBool_FromLong(found);
}

static int cache_assign(PyObject *self, PyObject *key, PyObject *value)
{
    if (value != NULL) {
        return put((Cache *)self, key, value, NULL, NULL) < 0 ? -1 : 0;
    }
    int found = discard((Cache *)self, key);
    if (found == 0) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return found > 0 ? 0 : -1;
}

#include "whole.h"

/* --- life ---------------------------------------------------------------------------------------------------- */

static PyObject *cache_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Cache *c = (Cache *)type->tp_alloc(type, 0);
    if (c != NULL) {
        memset(&c->store, 0, sizeof(c->store));
        store_close(&c->store);
    }
    return (PyObject *)c;
}

static PyObject *optional(PyObject *o) { return o == Py_None ? NULL : Py_NewRef(o); }

static int cache_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_entries", "max_weight", "ttl_ms",   "policy", "statistics",
                            "weigher",     "listener",   "clock", "causes", NULL};
    Cache *c = (Cache *)self;
    long long max_entries, max_weight;
    unsigned int ttl;
    int policy, counting;
    PyObject *weigher, *listener, *clock, *causes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LLIipOOOO!", names, &max_entries, &max_weight, &ttl, &policy,
                                     &counting, &weigher, &listener, &clock, &PyTuple_Type, &causes)) {
        return -1;
    }
    if (c->ready) {
        PyErr_SetString(PyExc_RuntimeError, "the cache is initialised already");
        return -1;
    }
    if (max_entries < 0 || max_entries > ENTRIES_MAX || max_weight < -1 || policy < POLICY_LRU ||
        policy > POLICY_ADAPTIVE || PyTuple_GET_SIZE(causes) != CAUSES) {
        PyErr_SetString(PyExc_ValueError, "an argument is out of range");
        return -1;
    }
    if (clock != Py_None) {
        PyObject *read = PyObject_CallNoArgs(clock);
        c->epoch = read == NULL ? -1.0 : PyFloat_AsDouble(read);
        Py_XDECREF(read);
        if (PyErr_Occurred()) {
            return -1;
        }
        if (!isfinite(c->epoch)) {
            PyErr_SetString(PyExc_ValueError, "the clock did not return a finite number of seconds");
            return -1;
        }
    } else {
        now(c, &c->start); /* `start` is zero as yet */
    }
    if (c->ready || store_open(&c->store, (uint32_t)max_entries, limit_of(max_weight), (enum policy)policy) < 0) {
        return -1;
    }
    c->policy = (enum policy)policy;
    c->default_ttl = ttl;
    c->counting = counting;
    Py_XSETREF(c->weigher, optional(weigher));
    Py_XSETREF(c->listener, optional(listener));
    Py_XSETREF(c->clock, optional(clock));
    Py_XSETREF(c->causes, Py_NewRef(causes));
    c->ready = true;
    return 0;
}

static int cache_traverse(PyObject *self, visitproc visit, void *arg)
{
    Cache *c = (Cache *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->weigher);
    Py_VISIT(c->listener);
    Py_VISIT(c->clock);
    Py_VISIT(c->causes);
    for (uint32_t i = 0; i < c->store.fresh; i++) {
        Py_VISIT(c->store.slab[i].key);
        Py_VISIT(c->store.slab[i].value);
    }
    return 0;
}

/* From here on the object is an empty cache that takes nothing in; then the references go. */
static int cache_clear_references(PyObject *self)
{
    Cache *c = (Cache *)self;
    Store old = c->store;
    bool moved = c->ready;
    c->ready = false;
    c->version++;
    if (moved) {
        memset(&c->store, 0, sizeof(c->store));
        store_close(&c->store);
        for (uint32_t i = 0; i < old.fresh; i++) {
            Py_XDECREF(old.slab[i].key);
            Py_XDECREF(old.slab[i].value);
        }
        store_close(&old);
    }
    Py_CLEAR(c->weigher);
    Py_CLEAR(c->listener);
    Py_CLEAR(c->clock);
    Py_CLEAR(c->causes);
    return 0;
}

static void cache_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    cache_clear_references(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef METHODS[] = {
    {"get", (PyCFunction)(void (*)(void))cache_get, METH_FASTCALL, NULL},
    {"peek", (PyCFunction)(void (*)(void))cache_peek, METH_FASTCALL, NULL},
    {"put", (PyCFunction)(void (*)(void))cache_put, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove", cache_remove, METH_O, NULL},
    {"clear", cache_clear, METH_NOARGS, NULL},
    {"purge", cache_purge, METH_NOARGS, NULL},
    {"_resize", cache_resize, METH_VARARGS, NULL},
    {"_snapshot", cache_snapshot, METH_NOARGS, NULL},
    {"_counters", cache_counters, METH_NOARGS, NULL},
    {"_loaded", cache_loaded, METH_VARARGS, NULL},
    {"_limits", cache_limits, METH_NOARGS, NULL},
    {"_segments", cache_segments, METH_NOARGS, NULL},
    {"__sizeof__", cache_sizeof, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, cache_new},
    {Py_tp_init, cache_init},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_traverse, cache_traverse},
    {Py_tp_clear, cache_clear_references},
    {Py_tp_methods, METHODS},
    {Py_sq_contains, cache_contains},
    {Py_mp_length, cache_length},
    {Py_mp_subscript, cache_subscript},
    {Py_mp_ass_subscript, cache_assign},
    {0, NULL},
};

static PyType_Spec SPEC = {
    .name = MODULE ".Core",
    .basicsize = sizeof(Cache),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = SLOTS,
};

static int module_exec(PyObject *module)
{
#ifdef Py_GIL_DISABLED
    PyErr_SetString(PyExc_ImportError, MODULE " relies on the global interpreter lock; the Python twin is used instead");
    return -1;
#endif
    PyObject *type = PyType_FromModuleAndSpec(module, &SPEC, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : PyModule_AddIntConstant(module, "SLOT_BYTES", SLOT_BYTES);
}

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef MODULE_DEFINITION = {
    PyModuleDef_HEAD_INIT, .m_name = MODULE, .m_slots = MODULE_SLOTS};

PyMODINIT_FUNC PyInit__slab(void) { return PyModuleDef_Init(&MODULE_DEFINITION); }
