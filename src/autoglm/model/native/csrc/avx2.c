// The kernels for AVX2 with FMA.
#ifdef __x86_64__
#pragma GCC target("avx2,fma,f16c")
#define VL 8
#define FORWARD forward_avx2
#define WIDEN widen_avx2
#define PREFILL prefill_avx2
#define PEAK peak_avx2
#include "forward.h"
#include "prefill.h"
#endif
