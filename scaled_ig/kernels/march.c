/* The renderer's inner loop: gather, head and compositing of a ray while all of it lies in the first-level cache.
 *
 * The same function as reference.march. Nothing is saved: backward computes a ray again and then all its gradients.
 * A call handles the rays first ... last; in backward they all read the same scene, so that no two threads write the
 * same texel. Sizes are fixed when this is compiled: F features (a multiple of 16), H hidden channels (a multiple of
 * 16), C values. P samples a ray are worked on in groups of 4; the last group is filled up with copies.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define FV (F / LANES)
#define HV (H / LANES)
#define OUT (C + 1)
#define YV ((OUT + LANES - 1) / LANES)
#define Y (YV * LANES) /* outputs filled up with zeros */

typedef float vec __attribute__((vector_size(64)));
typedef int veci __attribute__((vector_size(64)));

static inline vec load(const float *p) { vec x; memcpy(&x, p, sizeof x); return x; }
static inline void store(float *p, vec x) { memcpy(p, &x, sizeof x); }
static inline vec splat(float a) { return a - (vec){0}; }
static inline vec choose(veci mask, vec a, vec b) { return (vec)((mask & (veci)a) | (~mask & (veci)b)); }

/* exp(-x) for x >= 0: 2^-n exp(r) with r = n ln 2 - x within half of ln 2. */
static inline vec exp_minus(vec x) {
    x = choose(x < 87.f, x, splat(87.f));
    veci n = __builtin_convertvector(x * 1.44269504f + 0.5f, veci);
    vec nf = __builtin_convertvector(n, vec);
    vec r = nf * 0.693359375f - x + nf * -2.12194440e-4f;
    vec p = splat(1.f / 5040);
    p = p * r + 1.f / 720; p = p * r + 1.f / 120; p = p * r + 1.f / 24; p = p * r + 1.f / 6;
    p = p * r + 0.5f; p = p * r + 1.f; p = p * r + 1.f;
    return p * (vec)((127 - n) << 23);
}

/* softplus and its derivative, the sigmoid; log(1 + e) = 2 atanh(e / (2 + e)). */
static inline void softplus(vec x, vec *value, vec *slope) {
    vec e = exp_minus(choose(x > 0.f, x, -x)), s = e / (2.f + e), q = s * s;
    vec p = splat(1.f / 13);
    p = p * q + 1.f / 11; p = p * q + 1.f / 9; p = p * q + 1.f / 7; p = p * q + 1.f / 5; p = p * q + 1.f / 3; p = p * q + 1.f;
    *value = choose(x > 0.f, x, splat(0.f)) + 2.f * s * p;
    *slope = choose(x > 0.f, splat(1.f), e) / (1.f + e);
}
static inline vec sigmoid(vec x) {
    vec e = exp_minus(choose(x > 0.f, x, -x));
    return choose(x > 0.f, splat(1.f), e) / (1.f + e);
}
static inline float sigmoid1(float x) { return 1 / (1 + expf(-x)); }
static inline float softplus1(float x) { return fmaxf(x, 0) + log1pf(expf(-fabsf(x))); }

typedef struct {
    int samples, resolution; /* P, K */
    const float *texels;     /* [S, 3, K, K, F] */
    const long *slot;        /* [N] */
    const float *origins, *directions, *t; /* [N, 3], [N, 3], [N, P] */
    const int *axes;                       /* [3, 2] */
    const float *w1, *w1_rows, *b1; /* [F, H], [H, F], [H] */
    const float *w2, *w2_rows, *b2; /* [H, Y], [OUT, H], [Y] */
    const float *background;        /* [C] */
} Inputs;

typedef struct {
    float f[4][F], h[4][H], slope[4][H], dh[4][H];
    long row[4][12];
    float weight[4][12];
} Group;

typedef struct {
    Group *groups; /* [P / 4] */
    float *y, *dy, *color, *w, *through; /* [P, Y], [P, Y], [P, Y] with color of output m at m, [P], [P] */
} Scratch;

static Scratch allocate(int samples) {
    int groups = (samples + 3) / 4, padded = 4 * groups;
    Scratch s;
    s.groups = aligned_alloc(64, sizeof(Group) * groups);
    s.y = malloc(sizeof(float) * padded * (3 * Y + 2));
    s.dy = s.y + padded * Y; s.color = s.dy + padded * Y; s.w = s.color + padded * Y; s.through = s.w + padded;
    return s;
}
static void release(Scratch s) { free(s.groups); free(s.y); }

static inline void corners(const Inputs *in, long n, float t, long *row, float *weight) {
    const int k = in->resolution;
    int low[3], high[3];
    float wl[3], wh[3];
    for (int a = 0; a < 3; ++a) {
        float g = (in->origins[3 * n + a] + t * in->directions[3 * n + a] + 1) * (0.5f * k) - 0.5f, base = floorf(g);
        base = fminf(fmaxf(base, -2), k + 1);
        float part = fminf(fmaxf(g - base, 0), 1);
        int i = (int)base;
        wl[a] = i >= 0 && i < k ? 1 - part : 0;         /* texels outside the plane count as zero */
        wh[a] = i >= -1 && i < k - 1 ? part : 0;
        low[a] = i < 0 ? 0 : i > k - 1 ? k - 1 : i;
        high[a] = i + 1 < 0 ? 0 : i + 1 > k - 1 ? k - 1 : i + 1;
    }
    long start = in->slot[n] * 3 * k * k;
    for (int plane = 0; plane < 3; ++plane, row += 4, weight += 4, start += (long)k * k) {
        int u = in->axes[2 * plane], v = in->axes[2 * plane + 1];
        row[0] = start + low[v] * k + low[u];   weight[0] = wl[v] * wl[u];
        row[1] = start + low[v] * k + high[u];  weight[1] = wl[v] * wh[u];
        row[2] = start + high[v] * k + low[u];  weight[2] = wh[v] * wl[u];
        row[3] = start + high[v] * k + high[u]; weight[3] = wh[v] * wh[u];
    }
}

/* Features, hidden activations and outputs of all samples of ray n, then the weights of its intervals. */
static void see(const Inputs *in, long n, Scratch s) {
    const int samples = in->samples;
    const float *t = in->t + n * samples;
    for (int q = 0; q < samples; q += 4) {
        Group *g = &s.groups[q / 4];
        vec acc[4][HV];
        for (int i = 0; i < 4; ++i) {
            corners(in, n, t[q + i < samples ? q + i : samples - 1], g->row[i], g->weight[i]);
            vec f[FV];
            for (int k = 0; k < FV; ++k) f[k] = splat(0);
            for (int e = 0; e < 12; ++e)
                for (int k = 0; k < FV; ++k) f[k] += load(in->texels + g->row[i][e] * F + LANES * k) * g->weight[i][e];
            for (int k = 0; k < FV; ++k) store(g->f[i] + LANES * k, f[k]);
            for (int j = 0; j < HV; ++j) acc[i][j] = load(in->b1 + LANES * j);
        }
        for (int k = 0; k < F; ++k)
            for (int j = 0; j < HV; ++j) {
                vec w = load(in->w1 + k * H + LANES * j);
                for (int i = 0; i < 4; ++i) acc[i][j] += w * g->f[i][k];
            }
        vec y[4][YV];
        for (int i = 0; i < 4; ++i) {
            for (int j = 0; j < HV; ++j) {
                vec h, slope;
                softplus(acc[i][j], &h, &slope);
                store(g->h[i] + LANES * j, h);
                store(g->slope[i] + LANES * j, slope);
            }
            for (int m = 0; m < YV; ++m) y[i][m] = load(in->b2 + LANES * m);
        }
        for (int j = 0; j < H; ++j)
            for (int m = 0; m < YV; ++m) {
                vec w = load(in->w2 + j * Y + LANES * m);
                for (int i = 0; i < 4; ++i) y[i][m] += w * g->h[i][j];
            }
        for (int i = 0; i < 4; ++i)
            for (int m = 0; m < YV; ++m) {
                store(s.y + (q + i) * Y + LANES * m, y[i][m]);
                store(s.color + (q + i) * Y + LANES * m, sigmoid(y[i][m]));
            }
    }
    float through = 1;
    for (int p = 0; p < samples; ++p) {
        s.through[p] = through;
        if (p + 1 < samples) {
            float raw = 0.5f * (s.y[p * Y] + s.y[(p + 1) * Y]) - 1;
            float passed = expf(-softplus1(raw) * (t[p + 1] - t[p]));
            s.w[p] = (1 - passed) * through;
            through *= passed;
        }
    }
}

/* Value m of the interval behind sample p. */
static inline float mean_value(const float *color, int p, int m) {
    return 0.501f * (color[p * Y + m + 1] + color[(p + 1) * Y + m + 1]) - 0.001f;
}

/* pixels [N, C]; opacity and depth in extra [N, 2]. */
void march_forward(const Inputs *in, float *pixels, float *extra, long first, long last) {
    Scratch s = allocate(in->samples);
    const int end = in->samples - 1;
    for (long n = first; n < last; ++n) {
        const float *t = in->t + n * in->samples;
        see(in, n, s);
        float depth = 0, left = s.through[end];
        for (int m = 0; m < C; ++m) pixels[n * C + m] = left * in->background[m];
        for (int p = 0; p < end; ++p) {
            for (int m = 0; m < C; ++m) pixels[n * C + m] += s.w[p] * mean_value(s.color, p, m);
            depth += s.w[p] * 0.5f * (t[p] + t[p + 1]);
        }
        extra[2 * n] = 1 - left;
        extra[2 * n + 1] = 1 - left > 1e-3f ? depth / (1 - left) : t[end];
    }
    release(s);
}

/* Gradient of the outputs y of ray n from that of its pixel. */
static void uncomposite(const Inputs *in, long n, const float *gradient, Scratch s) {
    const float *t = in->t + n * in->samples, *g = gradient + n * C;
    const int end = in->samples - 1, padded = (in->samples + 3) / 4 * 4;
    memset(s.dy, 0, sizeof(float) * padded * Y);
    /* What is seen behind an interval falls by itself per unit of the interval's optical depth. */
    float behind = 0;
    for (int m = 0; m < C; ++m) behind += s.through[end] * g[m] * in->background[m];
    for (int p = end - 1; p >= 0; --p) {
        float seen = 0, *left = s.dy + p * Y, *right = left + Y;
        for (int m = 0; m < C; ++m) {
            float a = s.color[p * Y + m + 1], b = s.color[(p + 1) * Y + m + 1], x = 0.501f * s.w[p] * g[m];
            seen += g[m] * mean_value(s.color, p, m);
            left[m + 1] += x * a * (1 - a);
            right[m + 1] += x * b * (1 - b);
        }
        float raw = 0.5f * (s.y[p * Y] + s.y[(p + 1) * Y]) - 1;
        float d = (s.through[p + 1] * seen - behind) * (t[p + 1] - t[p]) * sigmoid1(raw) * 0.5f;
        left[0] += d;
        right[0] += d;
        behind += s.w[p] * seen;
    }
}

/* Add to d_texels [S, 3, K, K, F], d_w1 [F, H], d_b1 [H], d_w2 [OUT, H], d_b2 [OUT]. */
void march_backward(const Inputs *in, const float *gradient, float *d_texels, float *d_w1, float *d_b1, float *d_w2,
                    float *d_b2, long first, long last) {
    Scratch s = allocate(in->samples);
    const int groups = (in->samples + 3) / 4;
    for (long n = first; n < last; ++n) {
        see(in, n, s);
        uncomposite(in, n, gradient, s);
        for (int q = 0; q < groups; ++q) {
            Group *g = &s.groups[q];
            const float *dy = s.dy + 4 * q * Y;
            for (int j = 0; j < H; j += LANES) {
                vec dh[4], h[4], db = load(d_b1 + j);
                for (int i = 0; i < 4; ++i) { dh[i] = splat(0); h[i] = load(g->h[i] + j); }
                for (int m = 0; m < OUT; ++m) {
                    vec w = load(in->w2_rows + m * H + j), dw = load(d_w2 + m * H + j);
                    for (int i = 0; i < 4; ++i) { dh[i] += w * dy[i * Y + m]; dw += h[i] * dy[i * Y + m]; }
                    store(d_w2 + m * H + j, dw);
                }
                for (int i = 0; i < 4; ++i) { dh[i] *= load(g->slope[i] + j); db += dh[i]; store(g->dh[i] + j, dh[i]); }
                store(d_b1 + j, db);
            }
            for (int m = 0; m < OUT; ++m) for (int i = 0; i < 4; ++i) d_b2[m] += dy[i * Y + m];
            vec df[4][FV];
            for (int i = 0; i < 4; ++i) for (int k = 0; k < FV; ++k) df[i][k] = splat(0);
            for (int j = 0; j < H; ++j)
                for (int k = 0; k < FV; ++k) {
                    vec w = load(in->w1_rows + j * F + LANES * k);
                    for (int i = 0; i < 4; ++i) df[i][k] += w * g->dh[i][j];
                }
            for (int i = 0; i < 4; ++i)
                for (int e = 0; e < 12; ++e)
                    for (int k = 0; k < FV; ++k) {
                        float *texel = d_texels + g->row[i][e] * F + LANES * k;
                        store(texel, load(texel) + df[i][k] * g->weight[i][e]);
                    }
        }
        for (int k = 0; k < F; k += 4) {
            vec dw[4][HV];
            for (int c = 0; c < 4; ++c) for (int j = 0; j < HV; ++j) dw[c][j] = load(d_w1 + (k + c) * H + LANES * j);
            for (int q = 0; q < groups; ++q)
                for (int i = 0; i < 4; ++i)
                    for (int j = 0; j < HV; ++j) {
                        vec dh = load(s.groups[q].dh[i] + LANES * j);
                        for (int c = 0; c < 4; ++c) dw[c][j] += dh * s.groups[q].f[i][k + c];
                    }
            for (int c = 0; c < 4; ++c) for (int j = 0; j < HV; ++j) store(d_w1 + (k + c) * H + LANES * j, dw[c][j]);
        }
    }
    release(s);
}
