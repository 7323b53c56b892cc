/* One step of Adam on a row of parameters, in one sweep over it: scaled_ig/optim/scene_adam.py. */
#include <math.h>

/* m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, parameter -= rate m / (sqrt(v) / root + eps). A row has so many texels of
 * so many channels; those whose byte in `trained` is 0 stay as they are, unless it is NULL. */
void adam(float *restrict parameter, const float *restrict gradient, float *restrict m, float *restrict v, long texels,
          int channels, const unsigned char *trained, float rate, float beta1, float beta2, float root, float eps) {
    for (long texel = 0; texel < texels;) {
        if (trained && !trained[texel]) { ++texel; continue; }
        long end = texel + 1;
        while (end < texels && (!trained || trained[end])) ++end;
        for (long i = texel * channels; i < end * channels; ++i) {
            const float g = gradient[i];
            m[i] += (1 - beta1) * (g - m[i]);
            v[i] = beta2 * v[i] + (1 - beta2) * g * g;
            parameter[i] -= rate * m[i] / (sqrtf(v[i]) / root + eps);
        }
        texel = end;
    }
}
