// Vectors of VL floats in the compiler's own notation, so that one source serves every instruction set.
// Included once per instruction set, by base.c, avx2.c and avx512.c.
#include <math.h>
#include <string.h>

#include "decoder.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef float vf_loose __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh_loose __attribute__((vector_size(VL * 2), aligned(2), may_alias));
typedef int8_t vb_loose __attribute__((vector_size(VL), aligned(1), may_alias));
typedef uint8_t vn_loose __attribute__((vector_size(VL), aligned(1), may_alias));

INLINE vf load(const float *p) { return *(const vf_loose *)p; }
INLINE void store(float *p, vf v) { *(vf_loose *)p = v; }
INLINE vf splat(float value) { return value - (vf){0}; }
INLINE vf pick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
// By hand where it matters: the compiler takes comparisons of whole vectors apart.
INLINE vf max_of(vf a, vf b) {
#if VL == 16 && defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VL == 8 && defined(__AVX2__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return pick(a > b, a, b);
#endif
}
INLINE vf min_of(vf a, vf b) { return -max_of(-a, -b); }

INLINE float bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

// VL bytes as whole numbers. By hand where it matters: GCC 12 takes a general conversion of bytes apart number by number.
INLINE vi from_int8(const void *p) {
#if VL == 16 && defined(__AVX512F__)
  return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif VL == 8 && defined(__AVX2__)
  return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
  return __builtin_convertvector(*(const vb_loose *)p, vi);
#endif
}

INLINE vi from_uint8(const void *p) {
#if VL == 16 && defined(__AVX512F__)
  return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif VL == 8 && defined(__AVX2__)
  return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
  return __builtin_convertvector(*(const vn_loose *)p, vi);
#endif
}

INLINE vf from_bf16(const void *p) {
#if VL == 16 && defined(__AVX512F__)
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#elif VL == 8 && defined(__AVX2__)
  return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
#else
  return (vf)(__builtin_convertvector(*(const vh_loose *)p, vu) << 16);
#endif
}

// VL values at element `i` of memory that holds F32, BF16 or INT8.
INLINE vf load_as(const int type, const void *p, int64_t i) {
  if (type == BF16) return from_bf16((const uint16_t *)p + i);
  if (type == INT8) return __builtin_convertvector(from_int8((const int8_t *)p + i), vf);
  return load((const float *)p + i);
}

INLINE float element(const int type, const void *p, int64_t i) {
  return type == BF16 ? bf16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

// Sums of four vectors.
INLINE void sum4(vf a, vf b, vf c, vf d, float out[4]) {
#if VL == 16 && defined(__AVX512F__)
  __m512 ab_low = _mm512_unpacklo_ps((__m512)a, (__m512)b), ab_high = _mm512_unpackhi_ps((__m512)a, (__m512)b);
  __m512 cd_low = _mm512_unpacklo_ps((__m512)c, (__m512)d), cd_high = _mm512_unpackhi_ps((__m512)c, (__m512)d);
  __m512 ab = _mm512_add_ps(ab_low, ab_high), cd = _mm512_add_ps(cd_low, cd_high);
  __m512 all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))));
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all),
                              _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif VL == 8 && defined(__AVX2__)
  __m256 all = _mm256_hadd_ps(_mm256_hadd_ps((__m256)a, (__m256)b), _mm256_hadd_ps((__m256)c, (__m256)d));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
#else
  out[0] = out[1] = out[2] = out[3] = 0;
  for (int i = 0; i < VL; i++) out[0] += a[i], out[1] += b[i], out[2] += c[i], out[3] += d[i];
#endif
}

INLINE float sum(vf a) {
  float out[4];
  sum4(a, (vf){0}, (vf){0}, (vf){0}, out);
  return out[0];
}

INLINE float largest(vf a) {
  float best = a[0];
  for (int i = 1; i < VL; i++) best = a[i] > best ? a[i] : best;
  return best;
}

// e^x within 2 units in the last place; next to nothing below -87 (Cephes' expf: Moshier 1992).
INLINE vf exp_of(vf x) {
#if VL == 16 && defined(__AVX512F__)
  vf clamped = (vf)_mm512_min_ps((__m512)max_of(x, splat(-104.0f)), _mm512_set1_ps(88.0f));
  vf whole = (vf)_mm512_roundscale_ps((__m512)(clamped * 1.44269504088896341f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  vf clamped = max_of(x, splat(-87.3f));
  clamped = min_of(clamped, splat(88.0f));
  vf whole = clamped * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
  whole -= 12582912.0f;
#endif
  vf r = clamped - whole * 0.693359375f + whole * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
#if VL == 16 && defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
  vi exponent = __builtin_convertvector(whole, vi) + 127;
  return pick(x < -87.3f, (vf){0}, p * (vf)(exponent << 23));
#endif
}

// n numbers, any n: whole vectors, then the rest one by one.
INLINE float dot(const int type, const float *a, const void *b, int n) {
  vf even = {0}, odd = {0};
  int i = 0;
  for (; i + 2 * VL <= n; i += 2 * VL) {
    even += load(a + i) * load_as(type, b, i);
    odd += load(a + i + VL) * load_as(type, b, i + VL);
  }
  for (; i + VL <= n; i += VL) even += load(a + i) * load_as(type, b, i);
  float total = sum(even + odd);
  for (; i < n; i++) total += a[i] * element(type, b, i);
  return total;
}

// out = x / rms(x) * weight; out may be x
INLINE void rms_norm(float *out, const float *x, const float *weight, int n, float eps) {
  float scale = 1.0f / sqrtf(dot(F32, x, x, n) / (float)n + eps);
  for (int i = 0; i < n; i++) out[i] = x[i] * scale * weight[i];
}
