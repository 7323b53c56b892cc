/* The zero-gradient updates that a row of parameters has missed, in one sweep over it: scaled_ig/optim/deferred_updates.py. */
#include <math.h>

#define BLOCK 64 /* values that are worked on at a time, in registers */

/* parameter -= m sum_p weight_p / (sqrt(v) + node_p), then m and v decay. */
void apply_deferred(float *restrict parameter, float *restrict m, float *restrict v, long count, int points,
           const float *node, const float *weight, float decay_m, float decay_v) {
    for (long start = 0; start < count; start += BLOCK) {
        float root[BLOCK], factor[BLOCK];
        const int size = count - start < BLOCK ? (int)(count - start) : BLOCK;
        float *values = parameter + start, *first = m + start, *second = v + start;
        for (int i = 0; i < BLOCK; ++i) { root[i] = i < size ? sqrtf(second[i]) : 1; factor[i] = 0; }
        for (int p = 0; p < points; ++p)
            for (int i = 0; i < BLOCK; ++i) factor[i] += weight[p] / (root[i] + node[p]);
        for (int i = 0; i < size; ++i) {
            values[i] -= factor[i] * first[i];
            first[i] *= decay_m;
            second[i] *= decay_v;
        }
    }
}
