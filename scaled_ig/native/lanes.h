/* Vectors of 16 floats, whatever this machine's are, and what the field is made of. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(64)));
typedef int veci __attribute__((vector_size(64)));
typedef float half __attribute__((vector_size(32)));

INLINE vec load(const float *p) { vec x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, vec x) { memcpy(p, &x, sizeof x); }
INLINE half load_half(const float *p) { half x; memcpy(&x, p, sizeof x); return x; }
INLINE void store_half(float *p, half x) { memcpy(p, &x, sizeof x); }
INLINE vec splat(float a) { return a - (vec){0}; }
INLINE vec choose(veci mask, vec a, vec b) { return (vec)((mask & (veci)a) | (~mask & (veci)b)); }
INLINE veci choosei(veci mask, veci a, veci b) { return (mask & a) | (~mask & b); }
INLINE vec to_float(veci x) { return __builtin_convertvector(x, vec); }
INLINE veci to_int(vec x) { return __builtin_convertvector(x, veci); }

INLINE float total(vec x) {
    half a[2];
    memcpy(a, &x, sizeof a);
    a[0] += a[1];
    float b[8];
    memcpy(b, a, sizeof b);
    return ((b[0] + b[4]) + (b[2] + b[6])) + ((b[1] + b[5]) + (b[3] + b[7]));
}

/* exp(-x) for x >= 0, to 1e-7 of itself; NaN stays NaN: 2^-n exp(r) with r = n ln 2 - x within half of ln 2. */
INLINE vec exp_minus(vec x) {
    x = choose(x > 87.f, splat(87.f), x);
    veci n = to_int(x * 1.44269504f + 0.5f);
    vec r = to_float(n) * 0.69314718f - x, p = splat(0.008297653868f);
    p = p * r + 0.041915390640f; p = p * r + 0.166675746441f; p = p * r + 0.499988943338f;
    p = p * r + 0.999999701977f; p = p * r + 1.f;
    return p * (vec)((127 - n) << 23);
}

/* log(1 + e) for e in [0, 1], to 2e-7 of itself. */
INLINE vec log_one_plus(vec e) {
    vec p = splat(-0.008783308789f);
    p = p * e + 0.044944491237f; p = p * e - 0.108857974410f; p = p * e + 0.178255110979f; p = p * e - 0.245235875249f;
    p = p * e + 0.332801729441f; p = p * e - 0.499976992607f; p = p * e + 0.999999821186f;
    return p * e;
}

INLINE vec magnitude(vec x) { return (vec)((veci)x & 0x7fffffff); }
INLINE vec at_least_zero(vec x) { return choose(x < 0.f, splat(0.f), x); } /* NaN stays NaN */

INLINE vec softplus(vec x) { return at_least_zero(x) + log_one_plus(exp_minus(magnitude(x))); }
INLINE vec sigmoid(vec x) {
    vec e = exp_minus(magnitude(x));
    return choose(x > 0.f, splat(1.f), e) / (1.f + e);
}
/* softplus and its derivative, the sigmoid. */
INLINE vec softplus_slope(vec x, vec *slope) {
    vec e = exp_minus(magnitude(x));
    *slope = choose(x > 0.f, splat(1.f), e) / (1.f + e);
    return at_least_zero(x) + log_one_plus(e);
}
