// The kernels for AVX-512 with VNNI: packed weights on whole numbers.
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,prefer-vector-width=512")
#define VL 16
#define INTEGER
#define FORWARD forward_vnni
#define WIDEN widen_vnni
#include "forward.h"
#endif
