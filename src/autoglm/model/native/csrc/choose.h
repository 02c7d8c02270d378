// The largest of many numbers. Included once per instruction set, behind forward.h.

#define STRETCH 1024

INLINE float largest_of(const float *x, int n) {
  vf top[4] = {splat(x[0]), splat(x[0]), splat(x[0]), splat(x[0])};
  int i = 0;
  for (; i + 4 * VL <= n; i += 4 * VL)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) top[j] = max_of(load(x + i + j * VL), top[j]);
  float best = largest(max_of(max_of(top[0], top[1]), max_of(top[2], top[3])));
  for (; i < n; i++) best = x[i] > best ? x[i] : best;
  return best;
}

// Its index; the first of equals. Only the stretch that holds it is looked through number by number.
int CHOOSE(const float *x, int n) {
  float best = x[0];
  int first = 0;
  for (int start = 0; start < n; start += STRETCH) {
    float found = largest_of(x + start, n - start < STRETCH ? n - start : STRETCH);
    if (found > best) best = found, first = start;
  }
  while (first < n - 1 && x[first] != best) first++;
  return first;
}
