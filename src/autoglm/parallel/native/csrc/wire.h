// What the two parts of the library share.
#pragma once
#include <stdint.h>
#include <string.h>

#define ABI 1

// One source, several instruction sets; the loader picks. Contraction is off (see setup.py): hosts of different make must
// give equal bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define CLONES
#endif

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
