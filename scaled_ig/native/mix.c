/* Planes of scenes: their own features beside a mixture of bases, and the gradients of both.
 *
 * Texels are worked on in blocks that fit the second-level cache. A block of the bases is read once for all scenes; it
 * is copied, because bases lie so far apart that their texels would push each other out of the cache. A block is worked
 * on for the scenes alone that read texels of it: `reads` says which.
 */
#include "lanes.h"

#define BLOCK 32 /* texels */
#define TILE 64  /* floats; a block's macro features are filled up to whole tiles */
#define TV (TILE / LANES)

typedef struct {
    int scenes, bases, micro_channels, macro_channels; /* S, M, F_mic, F_mac */
    long texels;                                       /* of a scene, T */
    const float *micro, *mixing, *planes_of_bases;     /* [S, T, F_mic], [S, M], [M, T, F_mac] */
    const unsigned char *reads;                        /* [S, T], or NULL: every texel is read */
} Mixture;

/* A block of texels, and the scenes that read some of them: their numbers, mixing and macro features. */
typedef struct {
    int floats, scenes; /* of a row: macro features of a block; scenes that read it */
    int *scene;
    float *bases, *d_bases, *mixed; /* [M, floats], [M, floats], [scenes, floats] */
    float *mixing;                  /* [scenes, M] */
} Block;

static Block allocate(const Mixture *in) {
    Block b = {.floats = (BLOCK * in->macro_channels + TILE - 1) / TILE * TILE};
    const long floats = (long)b.floats * (2 * in->bases + in->scenes) + in->scenes * (in->bases + 1);
    b.bases = aligned_alloc(64, (sizeof(float) * floats + 63) / 64 * 64);
    memset(b.bases, 0, sizeof(float) * floats);
    b.d_bases = b.bases + in->bases * b.floats;
    b.mixed = b.d_bases + in->bases * b.floats;
    b.mixing = b.mixed + in->scenes * b.floats;
    b.scene = (int *)(b.mixing + in->scenes * in->bases);
    return b;
}

static int is_read(const Mixture *in, int scene, long texel) {
    return !in->reads || in->reads[scene * in->texels + texel];
}

/* Find the scenes that read texels of a block. */
static void choose_scenes(const Mixture *in, Block *b, long first, int texels) {
    b->scenes = 0;
    for (int s = 0; s < in->scenes; ++s) {
        int reads = 0;
        for (int p = 0; p < texels; ++p) reads |= is_read(in, s, first + p);
        if (!reads) continue;
        memcpy(b->mixing + b->scenes * in->bases, in->mixing + s * in->bases, sizeof(float) * in->bases);
        b->scene[b->scenes++] = s;
    }
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

/* Write planes [S, T, F_mic + F_mac] of the texels first ... last; zeros where they are not read. */
void mix(const Mixture *in, float *planes, long first, long last) {
    const int micro = in->micro_channels, macro = in->macro_channels;
    Block b = allocate(in);
    for (; first < last; first += BLOCK) {
        const int texels = last - first < BLOCK ? last - first : BLOCK;
        choose_scenes(in, &b, first, texels);
        if (b.scenes) read_bases(in, b, first, texels);
        combine(b.floats, b.scenes, in->bases, b.mixing, in->bases, 1, b.bases, b.mixed);
        for (int s = 0, i = 0; s < in->scenes; ++s) {
            float *to = planes + (s * in->texels + first) * (micro + macro);
            if (i == b.scenes || b.scene[i] != s) {
                memset(to, 0, sizeof(float) * texels * (micro + macro));
                continue;
            }
            for (int p = 0; p < texels; ++p, to += micro + macro)
                if (is_read(in, s, first + p)) {
                    memcpy(to, in->micro + (s * in->texels + first + p) * micro, sizeof(float) * micro);
                    memcpy(to + micro, b.mixed + i * b.floats + p * macro, sizeof(float) * macro);
                } else
                    memset(to, 0, sizeof(float) * (micro + macro));
            ++i;
        }
    }
    free(b.bases);
}

/* d_mixing[scene, m] += products of the rows of mixed and of bases, 4 by 4 of them at a time. */
static void correlate(const Mixture *in, Block b, float *d_mixing) {
    for (int s = 0; s < b.scenes; s += 4)
        for (int m = 0; m < in->bases; m += 4) {
            vec sum[4][4];
            const float *left[4], *right[4];
            for (int i = 0; i < 4; ++i) {
                for (int k = 0; k < 4; ++k) sum[i][k] = splat(0);
                left[i] = b.mixed + (s + i < b.scenes ? s + i : s) * b.floats;
                right[i] = b.bases + (m + i < in->bases ? m + i : m) * b.floats;
            }
            for (int x = 0; x < b.floats; x += LANES)
                for (int i = 0; i < 4; ++i) {
                    vec row = load(left[i] + x);
                    for (int k = 0; k < 4; ++k) sum[i][k] += row * load(right[k] + x);
                }
            for (int i = 0; i < 4 && s + i < b.scenes; ++i)
                for (int k = 0; k < 4 && m + k < in->bases; ++k)
                    d_mixing[b.scene[s + i] * in->bases + m + k] += total(sum[i][k]);
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
        choose_scenes(in, &b, first, texels);
        for (int s = 0, i = 0; s < in->scenes; ++s) {
            const long place = s * in->texels + first;
            if (i == b.scenes || b.scene[i] != s) {
                if (d_micro) memset(d_micro + place * micro, 0, sizeof(float) * texels * micro);
                continue;
            }
            float *row = b.mixed + i++ * b.floats;
            memset(row, 0, sizeof(float) * b.floats);
            for (int p = 0; p < texels; ++p) {
                const float *from = d_planes + (place + p) * (micro + macro);
                const int reads = is_read(in, s, first + p);
                if (d_micro && reads) memcpy(d_micro + (place + p) * micro, from, sizeof(float) * micro);
                if (d_micro && !reads) memset(d_micro + (place + p) * micro, 0, sizeof(float) * micro);
                if (reads) memcpy(row + p * macro, from + micro, sizeof(float) * macro);
            }
        }
        if (d_mixing && b.scenes) {
            read_bases(in, b, first, texels);
            correlate(in, b, d_mixing);
        }
        if (d_bases) {
            combine(b.floats, in->bases, b.scenes, b.mixing, 1, in->bases, b.mixed, b.d_bases);
            for (int m = 0; m < in->bases; ++m)
                memcpy(d_bases + (m * in->texels + first) * macro, b.d_bases + m * b.floats, sizeof(float) * texels * macro);
        }
    }
    free(b.bases);
}
