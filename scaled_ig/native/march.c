/* The renderer's inner loop: gather, head and compositing of a ray while all of it lies in the nearest caches.
 *
 * The same functions as in scaled_ig/rendering/kernels/reference.py. A call handles the rays first ... last; in march_backward
 * they all read the same scene, so that no two threads write the same texel. Sizes are fixed when this is compiled: F
 * features (a multiple of 16), H hidden channels (a multiple of 16), C values. Samples that the scene's hull holds are read,
 * one behind the other, in groups of 4, in backward of 8, and filled up with copies of the last one; the others are empty.
 *
 * Letters: N rays, P samples of each, S scenes, K texels along a plane, G cells along a hull; n, p, s are one ray, sample
 * and the memory of a ray, q the first sample of a group, k a feature, j a hidden channel, m an output, e a texel.
 */
#include "lanes.h"

#define FV (F / LANES)
#define HV (H / LANES)
#define OUT (C + 1)
#define YV ((OUT + 7) / 8)
#define Y (8 * YV) /* outputs filled up with zeros; the density is the first */
#define EMPTY -10.f /* of scaled_ig/rendering/compositing.py */
#define OPAQUE 14.f /* optical depth that 1e-6 of the light passes: less than rounding leaves */

typedef struct {
    int samples, resolution, cells; /* P, K, G */
    float extent, radius; /* half the sides of the cubes of planes and hulls, world units */
    float scale, opacity_weight; /* of a squared error, and of that of opacity within it */
    const float *texels;     /* [S, 3, K, K, F] */
    const long *slot;        /* [N] */
    const float *origins, *directions, *t; /* [N, 3], [N, 3], [N, P] */
    const int *axes;                       /* [3, 2] */
    const float *w1, *w1_rows, *b1; /* [F, H], [H, F], [H] */
    const float *w2, *w2_rows, *b2; /* [H, Y], [OUT, H], [Y] */
    const float *background;        /* [C] */
    const unsigned char *hulls;     /* [S, G, G, G / 8], or NULL */
} Inputs;

/* What there is to know of a ray's samples that are read, then of all samples and the intervals behind each of them. P is
 * filled up. */
typedef struct {
    int samples, padded, num_read;
    int *sample;          /* [P] the samples that are read, num_read of them */
    float *depth;         /* [P + LANES] theirs */
    int *row;             /* [12, P] first float of the texels around a sample */
    float *corner;        /* [12, P] their weights */
    float *f, *h, *slope; /* [P, F], [P, H], [P, H]: slope of softplus, later the gradient before it */
    float *y, *color, *dy;    /* [P, Y] */
    float *t, *raw, *value;   /* [P + LANES] */
    float *alpha, *light, *pull; /* [P + LANES] of intervals: opacity, 1 - opacity, optical depth per raw density */
    float *transmittance, *w;    /* [P + LANES] of intervals: light that reaches them, their weights */
    float *at, *share;           /* [P + LANES] weights of samples, and of those that are read */
    void *memory;
} Ray;

static Ray allocate(int samples) {
    const int padded = (samples + LANES - 1) / LANES * LANES, tail = padded + LANES;
    Ray s = {.samples = samples, .padded = padded};
    const long floats = padded * (25 + F + 2 * H + 3 * Y) + tail * 11;
    float *p = s.memory = aligned_alloc(64, sizeof(float) * floats);
    memset(p, 0, sizeof(float) * floats);
    s.sample = (int *)p; p += padded;
    s.row = (int *)p; p += 12 * padded;
    s.corner = p; p += 12 * padded;
    s.f = p; p += padded * F;
    s.h = p; p += padded * H;
    s.slope = p; p += padded * H;
    s.y = p; p += padded * Y;
    s.color = p; p += padded * Y;
    s.dy = p; p += padded * Y;
    float **lines[] = {&s.t, &s.raw, &s.value, &s.alpha, &s.light, &s.pull, &s.transmittance, &s.w, &s.at, &s.depth,
                       &s.share};
    for (int i = 0; i < 11; ++i, p += tail) *lines[i] = p;
    return s;
}

static void take_depths(Ray *s, const float *t) {
    memcpy(s->t, t, sizeof(float) * s->samples);
    for (int p = s->samples; p < s->padded + LANES; ++p) s->t[p] = t[s->samples - 1];
}

/* Which samples of ray n lie in cells that may hold something. */
static void choose_samples(const Inputs *in, long n, Ray *s) {
    take_depths(s, in->t + n * s->samples);
    s->num_read = 0;
    const int size = in->cells;
    const unsigned char *hull = in->hulls ? in->hulls + in->slot[n] * ((long)size * size * size / 8) : NULL;
    const float per_unit = hull ? size / (2 * in->radius) : 0;
    for (int p = 0; p < s->samples; ++p) {
        if (hull) {
            int cell[3], inside = 1;
            for (int a = 0; a < 3; ++a) {
                const float x = (in->origins[3 * n + a] + s->t[p] * in->directions[3 * n + a]) * in->extent;
                cell[a] = (int)floorf((x + in->radius) * per_unit);
                inside &= cell[a] >= 0 && cell[a] < size;
            }
            if (!inside) continue;
            const long at = ((long)cell[0] * size + cell[1]) * size + cell[2];
            if (!(hull[at >> 3] >> (at & 7) & 1)) continue;
        }
        s->sample[s->num_read] = p;
        s->depth[s->num_read++] = s->t[p];
    }
    const int padded = (s->num_read + LANES - 1) / LANES * LANES;
    for (int p = s->num_read; p < padded; ++p) s->depth[p] = s->depth[s->num_read - 1];
}

/* The 12 texels around each sample of ray n that is read. */
static void place(const Inputs *in, long n, Ray *s) {
    const int k = in->resolution;
    choose_samples(in, n, s);
    for (int p = 0; p < s->num_read; p += LANES) {
        veci low[3], high[3];
        vec wl[3], wh[3], t = load(s->depth + p);
        for (int a = 0; a < 3; ++a) {
            vec g = (in->origins[3 * n + a] + t * in->directions[3 * n + a] + 1.f) * (0.5f * k) - 0.5f;
            g = choose(g > -2.f, g, splat(-2.f));
            g = choose(g < k + 1.f, g, splat(k + 1.f));
            veci i = to_int(g + 2.f) - 2; /* downwards */
            vec part = g - to_float(i);
            wl[a] = choose((i >= 0) & (i < k), 1.f - part, splat(0)); /* texels outside the plane count as zero */
            wh[a] = choose((i >= -1) & (i < k - 1), part, splat(0));
            veci zero = {0}, last = zero + (k - 1);
            low[a] = choosei(i < 0, zero, choosei(i > last, last, i));
            high[a] = choosei(i < -1, zero, choosei(i >= last, last, i + 1));
        }
        for (int plane = 0; plane < 3; ++plane) {
            const int u = in->axes[2 * plane], v = in->axes[2 * plane + 1];
            for (int e = 0; e < 4; ++e) {
                veci row = (((e & 2 ? high[v] : low[v]) + plane * k) * k + (e & 1 ? high[u] : low[u])) * F;
                memcpy(s->row + (4 * plane + e) * s->padded + p, &row, sizeof row);
                store(s->corner + (4 * plane + e) * s->padded + p, (e & 2 ? wh[v] : wl[v]) * (e & 1 ? wh[u] : wl[u]));
            }
        }
    }
}

/* Features of 4 samples from the texels around them. */
INLINE void gather(const float *texels, Ray *s, int q) {
    for (int p = q; p < q + 4; ++p) {
        vec f[FV];
        for (int k = 0; k < FV; ++k) f[k] = splat(0);
        for (int e = 0; e < 12; ++e) {
            const float *texel = texels + s->row[e * s->padded + p], weight = s->corner[e * s->padded + p];
            for (int k = 0; k < FV; ++k) f[k] += load(texel + LANES * k) * weight;
        }
        for (int k = 0; k < FV; ++k) store(s->f + p * F + LANES * k, f[k]);
    }
}

/* Features, hidden activations and raw densities of the samples that are read; and, unless densities are all that is wanted,
 * the other outputs and what backward needs. Then nothing is read behind what is opaque: no light comes from there. */
INLINE void see(const Inputs *in, long n, Ray *s, int densities_only) {
    const float *texels = in->texels + in->slot[n] * 3 * in->resolution * in->resolution * F;
    float optical_depth = 0;
    place(in, n, s);
    for (int p = 0; p < s->samples; ++p) s->raw[p] = EMPTY;
    for (int q = 0; q < s->num_read; q += 4) {
        const int count = s->num_read - q < 4 ? s->num_read - q : 4;
        gather(texels, s, q);
        vec acc[4][HV];
        for (int i = 0; i < 4; ++i) for (int j = 0; j < HV; ++j) acc[i][j] = load(in->b1 + LANES * j);
        for (int k = 0; k < F; ++k)
            for (int j = 0; j < HV; ++j) {
                vec w = load(in->w1 + k * H + LANES * j);
                for (int i = 0; i < 4; ++i) acc[i][j] += w * s->f[(q + i) * F + k];
            }
        if (densities_only) {
            for (int i = 0; i < 4; ++i) {
                vec sum = splat(0);
                for (int j = 0; j < HV; ++j) sum += softplus(acc[i][j]) * load(in->w2_rows + LANES * j);
                if (i < count) s->raw[s->sample[q + i]] = total(sum) + in->b2[0];
            }
            continue;
        }
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < HV; ++j) {
                vec slope;
                store(s->h + (q + i) * H + LANES * j, softplus_slope(acc[i][j], &slope));
                store(s->slope + (q + i) * H + LANES * j, slope);
            }
        for (int m = 0; m < YV; ++m) {
            half even[4], odd[4]; /* two sums, neither of which waits for the other */
            for (int i = 0; i < 4; ++i) { even[i] = load_half(in->b2 + 8 * m); odd[i] = (half){0}; }
            for (int j = 0; j < H; j += 2) {
                half a = load_half(in->w2 + j * Y + 8 * m), b = load_half(in->w2 + (j + 1) * Y + 8 * m);
                for (int i = 0; i < 4; ++i) {
                    even[i] += a * s->h[(q + i) * H + j];
                    odd[i] += b * s->h[(q + i) * H + j + 1];
                }
            }
            for (int i = 0; i < 4; ++i) store_half(s->y + (q + i) * Y + 8 * m, even[i] + odd[i]);
        }
        for (int i = 0; i < 4 * Y; i += LANES) store(s->color + q * Y + i, sigmoid(load(s->y + q * Y + i)));
        for (int i = 0; i < count; ++i) {
            const int p = s->sample[q + i];
            s->raw[p] = s->y[(q + i) * Y];
            const float raw = p ? 0.5f * (s->raw[p - 1] + s->raw[p]) - 1 : EMPTY;
            optical_depth += fmaxf(raw, 0) * (p ? s->t[p] - s->t[p - 1] : 0); /* at most what it is */
        }
        if (optical_depth > OPAQUE) s->num_read = q + count;
    }
    /* Backward works in groups of 8: what an earlier ray left in the second half may be anything. */
    const int rows = (s->num_read + 3) / 4 * 4;
    if (rows % 8) {
        memset(s->f + rows * F, 0, sizeof(float) * 4 * F);
        memset(s->h + rows * H, 0, sizeof(float) * 4 * H);
        memset(s->slope + rows * H, 0, sizeof(float) * 4 * H);
        memset(s->color + rows * Y, 0, sizeof(float) * 4 * Y);
    }
}

/* Weights of the intervals behind each sample, from raw densities and depths. */
static void weigh(Ray *s) {
    for (int p = 0; p < s->samples; p += LANES) {
        vec slope, delta = load(s->t + p + 1) - load(s->t + p);
        vec sigma = softplus_slope(0.5f * (load(s->raw + p) + load(s->raw + p + 1)) - 1.f, &slope);
        vec depth = sigma * delta, light = exp_minus(depth);
        /* 1 - exp(-x) of small x by its series. */
        vec series = depth * (1.f - depth * (0.5f - depth * (1.f / 6 - depth * (1.f / 24))));
        store(s->alpha + p, choose(depth < 0.05f, series, 1.f - light));
        store(s->light + p, light);
        store(s->pull + p, 0.5f * slope * delta);
    }
    float transmittance = 1;
    const int end = s->samples - 1;
    for (int p = 0; p < end; ++p) {
        s->transmittance[p] = transmittance;
        s->w[p] = s->alpha[p] * transmittance;
        transmittance *= s->light[p];
    }
    s->transmittance[end] = transmittance;
    /* An interval has the mean of its ends: half of its weight goes to either. */
    s->at[0] = 0.5f * s->w[0];
    for (int p = 1; p < end; ++p) s->at[p] = 0.5f * (s->w[p - 1] + s->w[p]);
    s->at[end] = end ? 0.5f * s->w[end - 1] : 0;
}

INLINE void composite(const Inputs *in, Ray *s, float *pixel) {
    const float transmittance = s->transmittance[s->samples - 1];
    const int padded = (s->num_read + 7) / 8 * 8;
    float weight = 0;
    for (int p = 0; p < padded; ++p) weight += s->share[p] = p < s->num_read ? s->at[s->sample[p]] : 0;
    for (int m = 0; m < YV; ++m) {
        half even = {0}, odd = {0};
        for (int p = 0; p < padded; p += 2) {
            even += load_half(s->color + p * Y + 8 * m) * s->share[p];
            odd += load_half(s->color + (p + 1) * Y + 8 * m) * s->share[p + 1];
        }
        float sum[8];
        store_half(sum, even + odd);
        for (int i = 0; i < 8; ++i) {
            const int c = 8 * m + i - 1;
            if (c >= 0 && c < C) pixel[c] = 1.002f * sum[i] - 0.001f * weight + transmittance * in->background[c];
        }
    }
}

/* Raw densities [N, P]. */
void march_densities(const Inputs *in, float *densities, long first, long last) {
    Ray s = allocate(in->samples);
    for (long n = first; n < last; ++n) {
        see(in, n, &s, 1);
        memcpy(densities + n * s.samples, s.raw, sizeof(float) * s.samples);
    }
    free(s.memory);
}

/* Depths [N, P + count]: those of the first pass, and as many by importance as there are u [N, count]. */
void march_resample(int samples, int count, const float *t, const float *densities, const float *u, float *out,
                    long first, long last) {
    Ray s = allocate(samples);
    const int bins = samples - 1;
    float *smooth = s.value, *cdf = s.at;
    for (long n = first; n < last; ++n) {
        take_depths(&s, t + n * samples);
        memcpy(s.raw, densities + n * samples, sizeof(float) * samples);
        weigh(&s);
        float sum = 0;
        for (int b = 0; b < bins; ++b) {
            float left = fmaxf(b ? s.w[b - 1] : s.w[b], s.w[b]), right = fmaxf(s.w[b], b + 1 < bins ? s.w[b + 1] : s.w[b]);
            smooth[b] = sum += 0.5f * (left + right) + 0.01f;
        }
        cdf[0] = 0;
        for (int b = 0; b < bins; ++b) cdf[b + 1] = smooth[b] / sum;
        float *next = out + n * (samples + count);
        int b = 0;
        *next++ = s.t[0];
        for (int k = 0; k < count; ++k) {
            float quantile = fminf((k + (u ? u[n * count + k] : 0.5f)) / count, 1 - 1e-6f);
            while (b + 1 < bins && cdf[b + 1] <= quantile) *next++ = s.t[++b];
            float part = fminf(fmaxf((quantile - cdf[b]) / fmaxf(cdf[b + 1] - cdf[b], 1e-8f), 0), 1);
            *next++ = fminf(s.t[b] + (s.t[b + 1] - s.t[b]) * part, s.t[b + 1]);
        }
        while (b < bins) *next++ = s.t[++b];
    }
    free(s.memory);
}

/* pixels [N, C]; opacity, depth and the number of samples that were read in extra [N, 3]. */
void march_forward(const Inputs *in, float *pixels, float *extra, long first, long last) {
    Ray s = allocate(in->samples);
    const int end = in->samples - 1;
    for (long n = first; n < last; ++n) {
        see(in, n, &s, 0);
        weigh(&s);
        composite(in, &s, pixels + n * C);
        float depth = 0, weights = 0, opacity = 1 - s.transmittance[end];
        for (int p = 0; p <= end; ++p) depth += s.at[p] * s.t[p], weights += s.at[p];
        extra[3 * n] = opacity;
        /* Weights have all their digits where little is seen; 1 - transmittance has lost them. */
        extra[3 * n + 1] = opacity > 1e-3f ? depth / weights : s.t[end];
        extra[3 * n + 2] = s.num_read;
    }
    free(s.memory);
}

/* Gradient of the outputs y of a ray from those of its pixel [C] and of its opacity. */
static void uncomposite(const Inputs *in, const float *gradient, float of_opacity, Ray *s) {
    const int end = s->samples - 1, padded = (s->num_read + 7) / 8 * 8;
    float g[Y] = {0}, sum = 0, gain_behind = -s->transmittance[end] * of_opacity, d_previous = 0;
    for (int c = 0; c < C; ++c) {
        g[c + 1] = 1.002f * gradient[c];
        sum += 0.001f * gradient[c];
        gain_behind += s->transmittance[end] * gradient[c] * in->background[c];
    }
    for (int p = 0; p <= end; ++p) s->value[p] = 0;
    for (int p = 0; p < s->num_read; ++p) {
        float value = -sum;
        for (int c = 1; c < OUT; ++c) value += g[c] * s->color[p * Y + c];
        s->value[s->sample[p]] = value;
    }
    for (int p = 0; p < padded; ++p)
        for (int m = 0; m < Y; m += 8) {
            half a = load_half(s->color + p * Y + m);
            store_half(s->dy + p * Y + m, load_half(g + m) * (a - a * a) * (p < s->num_read ? s->at[s->sample[p]] : 0));
        }
    /* What is seen behind an interval falls by itself per unit of the interval's optical depth. */
    for (int p = end - 1; p >= 0; --p) {
        const float gain = 0.5f * (s->value[p] + s->value[p + 1]);
        const float d = (s->transmittance[p + 1] * gain - gain_behind) * s->pull[p];
        s->raw[p + 1] = d + d_previous; /* from here on the raw densities' gradients */
        d_previous = d;
        gain_behind += s->w[p] * gain;
    }
    s->raw[0] = d_previous;
    for (int p = 0; p < s->num_read; ++p) s->dy[p * Y] = s->raw[s->sample[p]];
}

/* Add gradients of the head, from those of the outputs of a ray; leaves those before softplus where its slopes were. */
static void unsee_head(const Inputs *in, Ray *s, float *d_w1, float *d_b1, float *d_w2, float *d_b2) {
    const int padded = (s->num_read + 7) / 8 * 8;
    for (int p = 0; p < padded; ++p) for (int m = 0; m < OUT; ++m) d_b2[m] += s->dy[p * Y + m];
    for (int j = 0; j < H; j += LANES) {
        vec w[OUT], dw[OUT], db = load(d_b1 + j);
        for (int m = 0; m < OUT; ++m) { w[m] = load(in->w2_rows + m * H + j); dw[m] = load(d_w2 + m * H + j); }
        for (int p = 0; p < padded; ++p) {
            vec h = load(s->h + p * H + j), dh = splat(0);
            for (int m = 0; m < OUT; ++m) {
                dh += w[m] * s->dy[p * Y + m];
                dw[m] += h * s->dy[p * Y + m];
            }
            dh *= load(s->slope + p * H + j);
            db += dh;
            store(s->slope + p * H + j, dh);
        }
        for (int m = 0; m < OUT; ++m) store(d_w2 + m * H + j, dw[m]);
        store(d_b1 + j, db);
    }
    for (int k = 0; k < F; k += 4) {
        vec dw[4][HV];
        for (int c = 0; c < 4; ++c) for (int j = 0; j < HV; ++j) dw[c][j] = load(d_w1 + (k + c) * H + LANES * j);
        for (int p = 0; p < padded; ++p)
            for (int j = 0; j < HV; ++j) {
                vec dh = load(s->slope + p * H + LANES * j);
                for (int c = 0; c < 4; ++c) dw[c][j] += dh * s->f[p * F + k + c];
            }
        for (int c = 0; c < 4; ++c) for (int j = 0; j < HV; ++j) store(d_w1 + (k + c) * H + LANES * j, dw[c][j]);
    }
}

/* Add gradients of the texels around a ray, after unsee_head; its features are overwritten by their gradients. */
static void unsee_texels(const Inputs *in, Ray *s, float *d_texels) {
    const int padded = (s->num_read + 7) / 8 * 8;
    for (int q = 0; q < padded; q += 8) {
        vec df[8][FV];
        for (int i = 0; i < 8; ++i) for (int k = 0; k < FV; ++k) df[i][k] = splat(0);
        for (int j = 0; j < H; ++j)
            for (int k = 0; k < FV; ++k) {
                vec w = load(in->w1_rows + j * F + LANES * k);
                for (int i = 0; i < 8; ++i) df[i][k] += w * s->slope[(q + i) * H + j];
            }
        for (int i = 0; i < 8; ++i) for (int k = 0; k < FV; ++k) store(s->f + (q + i) * F + LANES * k, df[i][k]);
    }
    for (int p = 0; p < s->num_read; ++p) {
        vec df[FV];
        for (int k = 0; k < FV; ++k) df[k] = load(s->f + p * F + LANES * k);
        for (int e = 0; e < 12; ++e) {
            float *texel = d_texels + s->row[e * s->padded + p], weight = s->corner[e * s->padded + p];
            for (int k = 0; k < FV; ++k) store(texel + LANES * k, load(texel + LANES * k) + df[k] * weight);
        }
    }
}

/* Squared error and gradients of the rays of one scene. `target_or_gradient` [N, C] is the gradient of the pixels where
 * error is NULL, and else what they should be; so `opacity` [N], unless it is NULL, of the rays' opacities; negative
 * where nothing is known. Writes d_texels [3, K, K, F] unless it is NULL, d_w1 [F, H], d_b1 [H],
 * d_w2 [OUT, H] and d_b2 [OUT]. */
void march_backward(const Inputs *in, const float *target_or_gradient, const float *opacity, double *error,
                    float *d_texels, float *d_w1, float *d_b1, float *d_w2, float *d_b2, long first, long last) {
    Ray s = allocate(in->samples);
    if (error) *error = 0;
    if (d_texels) memset(d_texels, 0, sizeof(float) * 3 * in->resolution * in->resolution * F);
    memset(d_w1, 0, sizeof(float) * F * H);
    memset(d_b1, 0, sizeof(float) * H);
    memset(d_w2, 0, sizeof(float) * OUT * H);
    memset(d_b2, 0, sizeof(float) * OUT);
    for (long n = first; n < last; ++n) {
        float pixel[C], gradient[C], of_opacity = 0;
        memcpy(gradient, target_or_gradient + n * C, sizeof gradient);
        see(in, n, &s, 0);
        weigh(&s);
        if (error) {
            composite(in, &s, pixel);
            for (int c = 0; c < C; ++c) {
                float residual = pixel[c] - gradient[c];
                *error += (double)in->scale * residual * residual;
                gradient[c] = 2 * in->scale * residual;
            }
            if (opacity && opacity[n] >= 0) {
                const float residual = 1 - s.transmittance[s.samples - 1] - opacity[n];
                const float weight = in->scale * in->opacity_weight;
                *error += (double)weight * residual * residual;
                of_opacity = 2 * weight * residual;
            }
        }
        uncomposite(in, gradient, of_opacity, &s);
        unsee_head(in, &s, d_w1, d_b1, d_w2, d_b2);
        if (d_texels) unsee_texels(in, &s, d_texels);
    }
    free(s.memory);
}
