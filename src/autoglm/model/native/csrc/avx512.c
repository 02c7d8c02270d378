// The kernels for AVX-512.
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")
#define VL 16
#define FORWARD forward_avx512
#define WIDEN widen_avx512
#define PREFILL prefill_avx512
#define PEAK peak_avx512
#include "forward.h"
#include "prefill.h"
#endif
