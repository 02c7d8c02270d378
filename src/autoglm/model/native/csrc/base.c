// The kernels for any machine; the compiler lowers the vectors to what it has.
#define VL 4
#define FORWARD forward_base
#define WIDEN widen_base
#define PREFILL prefill_base
#define PEAK peak_base
#include "forward.h"
#include "prefill.h"
