// What Python hands over, and what the threads of a decoder share. Mirrored in structs.py: count ABI up with any change.
#ifndef AUTOGLM_DECODER_H
#define AUTOGLM_DECODER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define ABI 7
#define GROUPED 4  // panels that meet a tile of weights while it is in the caches
#define KEYS 96    // keys whose scores are held at once
#define SPREAD_MOST 12
#define FEW 8  // rows up to which a product goes weight row by weight row

enum weight_type { F32 = 0, BF16 = 1, INT8 = 2, INT4 = 3 };

// rows x cols, row by row; packed weights by tiles of 4 rows, and in a tile by blocks of 128 columns: the 4 rows' first
// blocks, then their second blocks... (the last tile and the last block may be smaller). INT8: one scale per row. INT4: groups
// of 32 columns; byte j of a group holds column j in its low half and column j + 16 in its high half, as indices into CODES;
// one bf16 scale per group, in the order of the groups.
typedef struct {
  int32_t type, rows, cols, reserved;
  const void *data, *scales;
  const float *bias;  // or NULL
} matrix_t;

typedef struct {
  const float *input_norm, *attended_norm, *mlp_norm, *mlp_out_norm;  // prefill only: the second and the last may be NULL
  matrix_t qkv, out, gate_up, down;
  // gated cross-attention; module < 0: none in this layer
  int32_t module;
  float gate;  // tanh taken
  const float *cross_norm, *cross_q_norm;
  matrix_t cross_q, cross_out;
} layer_t;

// Adds `count` numbers of all ranks up, in place; 0 if it went well. `type` 0: float.
typedef int (*sum_t)(void *group, void *data, uint64_t count, int type);

// With ranks (`sum` is there), heads, widths and rows of matrices are those of this one; `hidden` and `gate_rank` are whole.
// A stage of a pipeline has its own layers, counted from 0; without an embedding it begins with what the stage before made
// of the rows, and without a head it ends with what the next one begins with.
typedef struct {
  int32_t hidden, layers, heads, kv_heads, head_dim, rotary_pairs, intermediate, vocab;
  int32_t cross_heads, cross_kv_heads, cross_head_dim, first_fusion, gate_rank;  // first_fusion = layers: no fusion here
  int32_t kv_type, block_size, max_rows, max_tokens, threads;
  int32_t integer_products;  // packed weights on whole numbers, where the machine can
  int32_t embed_first, gate_first;  // of this rank's rows of the embedding and of the gate
  int32_t halves;  // a head's pairs are (i, i + pairs), not (2i, 2i + 1)
  int32_t whole;   // every row sees all of its sequence, not only what is before it
  int32_t queries_before, queries_after;  // whether the gate's queries come from the stage before, and go to the next
  float eps, gate_scale, gate_bias;
  matrix_t embed, head, gate_text;  // data NULL: not here
  const float *final_norm, *gate_norm, *inv_freq;
  const int32_t *rotary_axis;  // which of the three positions a pair follows
  void *keys, *values;         // [layers][kv_heads][slots][head_dim]; NULL: nobody keeps them (prefill only)
  int64_t layer_stride, head_stride;  // in elements
  const layer_t *layer;
  sum_t sum;  // NULL: one rank has all
  void *group;
} model_t;

// One image's features: keys and values of each module [cross_kv_heads][tokens][cross_head_dim], gate keys [tokens][rank].
typedef struct {
  int32_t tokens, reserved;
  const void *gate_keys;
  const void *const *keys, *const *values;
} image_t;

typedef struct {
  int32_t token, position[3];
  int32_t length;  // tokens of its sequence up to and with this row
  int32_t images;
  int32_t wanted;  // whether its logits are
  int32_t reserved;
  const int32_t *blocks;         // its sequence's block table
  const image_t *const *image;   // images it sees
} row_t;

// Keys and values that lie side by side [count][dim].
typedef struct {
  const void *keys, *values;
  const float *mask;  // added to the scores, or NULL
  int64_t count;
} piece_t;

// One sequence's part of a prefill.
typedef struct {
  int32_t first, rows;      // its rows
  int32_t length, reserved; // its tokens, these rows included, which are the last of them
  const int64_t *slots;     // of each token
} sequence_t;

// Rows through half layers `first` to `last - 1`: half 2l is the attention of layer l, 2l + 1 its feed-forward.
typedef struct {
  int32_t rows, sequences, first, last;
  int32_t wanted, reserved;  // -1: all rows; else so many leave the last layer
  const float *in;           // [rows][hidden]
  float *out;                // [rows or wanted][hidden]
  const float *rotation;     // cosine and sine [rows][pairs][2]
  const int64_t *want;       // [wanted], ascending
  const sequence_t *sequence;
} prefill_t;

// What a prefill's time is spent on; mirrored in handle.py.
enum phase { TURN, NORM, QKV, WRITE, ATTEND, OUT, GATE_UP, DOWN, WAIT, PHASES };

// Lanes of one panel that are consecutive rows of one sequence.
typedef struct {
  int32_t sequence, first, last;
} segment_t;

// Rows as lanes (panels.h): panel p holds `each` rows from p * each on, feature by feature.
typedef struct {
  int32_t rows, panels, each;
  float *x, *q, *rotation;  // [panels][width][lanes]; rotation: [panels][pairs][2][lanes]
  int32_t *length;            // tokens that each lane sees, itself included [panels][lanes]
  int32_t *begin;             // first segment of each panel, and behind the last [panels + 1]
  segment_t *segment;
} batch_t;

typedef struct decoder decoder_t;

// 128 columns of a row in 8 bits (integer.h): lane i of a product takes codes 4i.. and 64 + 4i.., and has one scale.
typedef struct {
  int8_t code[128];
  int32_t start[16];
  float scale[16];
} codes_t;

// One thread's private memory.
typedef struct {
  decoder_t *decoder;
  int32_t index;
  float *x;        // residual stream [max_rows][hidden]; each thread keeps its own copy, so that norms need no barrier
  float *normed;   // [max_rows][widest]
  float *turned;   // a product's rows in the order it reads them (rows.h, linear.h) [widest][padded rows]
  float *weights;  // a few weight rows as f32
  codes_t *codes;  // a product's rows, rounded [max_rows][widest / 128]
  float *scores;   // [group][max_tokens]
  piece_t *pieces;
  // prefill, a few panels at once
  float *panel_normed, *panel_kv, *panel_attended, *panel_activated, *panel_projected;
  float *panel_weights;  // weight rows of a tile as f32
  float *panel_scores, *panel_mixed, *panel_keys, *panel_row;
  double since, spent[PHASES];  // seconds
} worker_t;

struct decoder {
  model_t model;
  worker_t *workers;
  // shared by the threads of a step
  float *qkv, *attended, *projected, *activated, *cross_q, *gate_q, *log_mask, *rotation;
  int32_t *seeing;  // rows that see an image
  // the step under way
  const row_t *rows;
  const float *before;  // from the stage before: [rows][hidden], then the gate's queries [rows that see an image][gate_rank]
  float *out;           // logits, or the same for the next stage
  int32_t row_count, seeing_count, stopping, failed;  // failed: what `sum` gave
  void (*forward)(worker_t *), (*prefill)(worker_t *);
  // the prefill under way
  const prefill_t *step;
  batch_t all, wanted;
  float *keys, *values;
  int64_t layer_stride, head_stride;
  int32_t lanes;
  char *arena;
  size_t arena_size;
  void (*job)(worker_t *);  // what the pool's threads run
  void *pool;
  _Atomic uint32_t arrived, generation;
};

// Per instruction set: a step, a whole matrix as f32, and the index of the largest number.
void forward_base(worker_t *);
void forward_avx2(worker_t *);
void forward_avx512(worker_t *);
void forward_vnni(worker_t *);
void prefill_base(worker_t *);
void prefill_avx2(worker_t *);
void prefill_avx512(worker_t *);
double peak_base(int rounds);
double peak_avx2(int rounds);
double peak_avx512(int rounds);
void widen_base(const matrix_t *, float *);
void widen_avx2(const matrix_t *, float *);
void widen_avx512(const matrix_t *, float *);
int choose_base(const float *, int);
int choose_avx2(const float *, int);
int choose_avx512(const float *, int);

// Wait until all threads of the step are here.
void pool_barrier(decoder_t *);

// The time since the last mark of this thread was spent on `phase`.
void mark(worker_t *w, enum phase phase);

// Run `job` on all threads of the decoder, this one among them.
void pool_run(decoder_t *d, void (*job)(worker_t *));

#endif
