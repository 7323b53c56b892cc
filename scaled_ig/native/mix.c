/* Planes of scenes: their own features beside a mixture of bases, and the gradients of both.
 *
 * Texels are worked on in blocks that fit the second-level cache. A block of the bases is read once for all scenes; it
 * is copied, because bases lie so far apart that their texels would push each other out of the cache.
 */
#include "lanes.h"

#define BLOCK 32 /* texels */
#define TILE 64  /* floats; a block's macro features are filled up to whole tiles */
#define TV (TILE / LANES)

typedef struct {
    int scenes, bases, micro_channels, macro_channels; /* S, M, F_mic, F_mac */
    long texels;                                       /* of a scene, T */
    const float *micro, *mixing, *planes_of_bases;     /* [S, T, F_mic], [S, M], [M, T, F_mac] */
} Mixture;

typedef struct {
    int floats;                     /* of a row: macro features of a block */
    float *bases, *d_bases, *mixed; /* [M, floats], [M, floats], [S, floats] */
} Block;

static Block allocate(const Mixture *in) {
    Block b = {.floats = (BLOCK * in->macro_channels + TILE - 1) / TILE * TILE};
    const long size = sizeof(float) * b.floats * (2 * in->bases + in->scenes);
    b.bases = aligned_alloc(64, size);
    memset(b.bases, 0, size);
    b.d_bases = b.bases + in->bases * b.floats;
    b.mixed = b.d_bases + in->bases * b.floats;
    return b;
}

static void read_bases(const Mixture *in, Block b, long first, int texels) {
    const int macro = in->macro_channels;
    for (int m = 0; m < in->bases; ++m)
        memcpy(b.bases + m * b.floats, in->planes_of_bases + (m * in->texels + first) * macro, sizeof(float) * texels * macro);
}

/* out[i] = sum over k of weight[i * i_step + k * k_step] rows[k]; rows of both are `floats` long. */
static void combine(int floats, int count, int terms, const float *weight, int i_step, int k_step, const float *rows,
                    float *out) {
    for (int x = 0; x < floats; x += TILE)
        for (int i = 0; i < count; i += 4) {
            vec sum[4][TV];
            const float *w[4]; /* the last ones are done twice rather than fewer of them */
            for (int a = 0; a < 4; ++a) w[a] = weight + (i + a < count ? i + a : count - 1) * i_step;
            for (int a = 0; a < 4; ++a) for (int v = 0; v < TV; ++v) sum[a][v] = splat(0);
            for (int k = 0; k < terms; ++k)
                for (int v = 0; v < TV; ++v) {
                    vec row = load(rows + k * floats + x + LANES * v);
                    for (int a = 0; a < 4; ++a) sum[a][v] += row * w[a][k * k_step];
                }
            for (int a = 0; a < 4 && i + a < count; ++a)
                for (int v = 0; v < TV; ++v) store(out + (i + a) * floats + x + LANES * v, sum[a][v]);
        }
}

/* Write planes [S, T, F_mic + F_mac] of the texels first ... last. */
void mix(const Mixture *in, float *planes, long first, long last) {
    const int micro = in->micro_channels, macro = in->macro_channels;
    Block b = allocate(in);
    for (; first < last; first += BLOCK) {
        const int texels = last - first < BLOCK ? last - first : BLOCK;
        read_bases(in, b, first, texels);
        combine(b.floats, in->scenes, in->bases, in->mixing, in->bases, 1, b.bases, b.mixed);
        for (int s = 0; s < in->scenes; ++s)
            for (int p = 0; p < texels; ++p) {
                const long texel = s * in->texels + first + p;
                memcpy(planes + texel * (micro + macro), in->micro + texel * micro, sizeof(float) * micro);
                memcpy(planes + texel * (micro + macro) + micro, b.mixed + s * b.floats + p * macro, sizeof(float) * macro);
            }
    }
    free(b.bases);
}

/* d_mixing[s, m] += products of the rows of mixed and of bases, 4 by 4 of them at a time. */
static void correlate(const Mixture *in, Block b, float *d_mixing) {
    for (int s = 0; s < in->scenes; s += 4)
        for (int m = 0; m < in->bases; m += 4) {
            vec sum[4][4];
            const float *left[4], *right[4];
            for (int i = 0; i < 4; ++i) {
                for (int k = 0; k < 4; ++k) sum[i][k] = splat(0);
                left[i] = b.mixed + (s + i < in->scenes ? s + i : s) * b.floats;
                right[i] = b.bases + (m + i < in->bases ? m + i : m) * b.floats;
            }
            for (int x = 0; x < b.floats; x += LANES)
                for (int i = 0; i < 4; ++i) {
                    vec row = load(left[i] + x);
                    for (int k = 0; k < 4; ++k) sum[i][k] += row * load(right[k] + x);
                }
            for (int i = 0; i < 4 && s + i < in->scenes; ++i)
                for (int k = 0; k < 4 && m + k < in->bases; ++k) d_mixing[(s + i) * in->bases + m + k] += total(sum[i][k]);
        }
}

/* Gradients from that of the planes, of the texels first ... last: d_micro [S, T, F_mic], d_bases [M, T, F_mac], and
 * d_mixing [S, M], to be summed over all calls. Where a pointer is NULL, its gradient is not wanted. */
void unmix(const Mixture *in, const float *d_planes, float *d_micro, float *d_bases, float *d_mixing, long first,
           long last) {
    const int micro = in->micro_channels, macro = in->macro_channels;
    Block b = allocate(in);
    if (d_mixing) memset(d_mixing, 0, sizeof(float) * in->scenes * in->bases);
    for (; first < last; first += BLOCK) {
        const int texels = last - first < BLOCK ? last - first : BLOCK;
        for (int s = 0; s < in->scenes; ++s) {
            float *row = b.mixed + s * b.floats;
            memset(row + texels * macro, 0, sizeof(float) * (b.floats - texels * macro));
            for (int p = 0; p < texels; ++p) {
                const long texel = s * in->texels + first + p;
                const float *from = d_planes + texel * (micro + macro);
                if (d_micro) memcpy(d_micro + texel * micro, from, sizeof(float) * micro);
                memcpy(row + p * macro, from + micro, sizeof(float) * macro);
            }
        }
        if (d_mixing) {
            read_bases(in, b, first, texels);
            correlate(in, b, d_mixing);
        }
        if (d_bases) {
            combine(b.floats, in->bases, in->scenes, in->mixing, 1, in->bases, b.mixed, b.d_bases);
            for (int m = 0; m < in->bases; ++m)
                memcpy(d_bases + (m * in->texels + first) * macro, b.d_bases + m * b.floats, sizeof(float) * texels * macro);
        }
    }
    free(b.bases);
}
