// Integers of 8 or 4 bits with one scale a group, for sums on the wire.
//
// A coded run of `count` values: codes of all groups, then their scales (bfloat16). The last group may be short. With channel
// scales, value i belongs to channel (start + i) % columns and is divided by that channel's scale before it is rounded.
// Rounding follows codes.py of the Python side bit by bit; that is what the tests compare with.
#include "wire.h"

enum { MAX_GROUP = 1024, MAX_PEERS = 64 };

typedef struct {
  int32_t bits;         // 8 or 4
  int32_t group;        // values a scale, even, at most MAX_GROUP
  int64_t columns;      // 0: no channel scales
  const float *channel; // [columns], by which codes are multiplied
  const float *inverse; // [columns], 1 / channel
} Codec;

#define MAGIC 12582912.0f // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits

static inline int64_t code_bytes(const Codec *c, int64_t count) { return c->bits == 8 ? count : (count + 1) / 2; }

// x times the channels' factors; a run may wrap around the row's end.
static inline __attribute__((always_inline)) void scaled(const float *x, const float *factors, int64_t columns,
                                                         int64_t channel, int64_t n, float *out) {
  while (n > 0) {
    const int64_t run = columns - channel < n ? columns - channel : n;
    for (int64_t i = 0; i < run; i++) out[i] = x[i] * factors[channel + i];
    x += run, out += run, n -= run, channel = 0;
  }
}

static inline __attribute__((always_inline)) void encode_group(const Codec *c, const float *x, int64_t n, uint8_t *codes,
                                                               uint16_t *scale) {
  const int32_t top = c->bits == 8 ? 127 : 7;
  uint32_t highest = 0;
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = bits_of(x[i]) & 0x7fffffff;
    highest = bits > highest ? bits : highest;
  }
  if (highest >= 0x7f800000) { // not finite: the whole group becomes NaN rather than a wrong number
    *scale = 0x7fc0;
    memset(codes, 0, (size_t)code_bytes(c, n));
    return;
  }
  // Rounded up, so that no code passes `top`. Too small to divide by: zeros.
  const uint32_t raised = (bits_of(float_of(highest) / (float)top) + 0xffff) >> 16;
  const float step = float_of(raised << 16);
  const float inverse = raised >= 0x0080 ? 1.0f / step : 0.0f;
  *scale = raised >= 0x0080 ? (uint16_t)raised : 0;
  if (c->bits == 8) {
    for (int64_t i = 0; i < n; i++) codes[i] = (uint8_t)(bits_of(x[i] * inverse + MAGIC) & 0xff);
    return;
  }
  int32_t whole[MAX_GROUP + 1];
  for (int64_t i = 0; i < n; i++) whole[i] = (int32_t)(bits_of(x[i] * inverse + MAGIC) & 0xf);
  whole[n] = 0;
  for (int64_t i = 0; i < n; i += 2) codes[i / 2] = (uint8_t)(whole[i] | whole[i + 1] << 4);
}

static inline __attribute__((always_inline)) void decode_group(const Codec *c, const uint8_t *codes, uint16_t scale,
                                                               int64_t channel, int64_t n, float *out) {
  const float step = float_of((uint32_t)scale << 16);
  float plain[MAX_GROUP];
  float *to = c->columns ? plain : out;
  if (c->bits == 8) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)(int8_t)codes[i] * step;
  } else {
    for (int64_t i = 0; i < n / 2; i++) {
      to[2 * i] = (float)((int8_t)(codes[i] << 4) >> 4) * step;
      to[2 * i + 1] = (float)((int8_t)codes[i] >> 4) * step;
    }
    if (n & 1) to[n - 1] = (float)((int8_t)(codes[n / 2] << 4) >> 4) * step;
  }
  if (c->columns) scaled(plain, c->channel, c->columns, channel, n, out);
}

static inline int64_t channel_of(const Codec *c, int64_t index) { return c->columns ? index % c->columns : 0; }

CLONES void autoglm_codec_encode(const Codec *c, const float *x, int64_t start, int64_t count, uint8_t *out) {
  uint8_t *scales = out + code_bytes(c, count);
  float group[MAX_GROUP];
  for (int64_t i = 0, g = 0; i < count; i += c->group, g++) {
    const int64_t n = count - i < c->group ? count - i : c->group;
    const float *from = x + i;
    if (c->columns) {
      scaled(from, c->inverse, c->columns, channel_of(c, start + i), n, group);
      from = group;
    }
    uint16_t scale;
    encode_group(c, from, n, out + code_bytes(c, i), &scale);
    memcpy(scales + 2 * g, &scale, 2);
  }
}

CLONES void autoglm_codec_decode(const Codec *c, const uint8_t *in, int64_t start, int64_t count, float *out) {
  const uint8_t *scales = in + code_bytes(c, count);
  for (int64_t i = 0, g = 0; i < count; i += c->group, g++) {
    const int64_t n = count - i < c->group ? count - i : c->group;
    uint16_t scale;
    memcpy(&scale, scales + 2 * g, 2);
    decode_group(c, in + code_bytes(c, i), scale, channel_of(c, start + i), n, out + i);
  }
}

// The owner's share of the sum: own part + what the peers sent, coded to `out`; `x` becomes what the others will decode, so
// that all ranks end with equal bits. One pass over memory.
CLONES void autoglm_codec_reduce(const Codec *c, float *x, const uint8_t *const *peers, int32_t count_peers,
                                 int64_t start, int64_t count, uint8_t *out) {
  const int64_t tail = code_bytes(c, count);
  float total[MAX_GROUP], other[MAX_GROUP];
  for (int64_t i = 0, g = 0; i < count; i += c->group, g++) {
    const int64_t n = count - i < c->group ? count - i : c->group, at = code_bytes(c, i);
    const int64_t channel = channel_of(c, start + i);
    uint16_t scale;
    memcpy(total, x + i, (size_t)n * 4);
    for (int32_t p = 0; p < count_peers; p++) {
      memcpy(&scale, peers[p] + tail + 2 * g, 2);
      decode_group(c, peers[p] + at, scale, channel, n, other);
      for (int64_t k = 0; k < n; k++) total[k] += other[k];
    }
    if (c->columns) scaled(total, c->inverse, c->columns, channel, n, total);
    encode_group(c, total, n, out + at, &scale);
    memcpy(out + tail + 2 * g, &scale, 2);
    decode_group(c, out + at, scale, channel, n, x + i);
  }
}

int autoglm_wire_abi(void) { return ABI; }
