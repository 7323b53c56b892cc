/* Rays through the cells of visual hulls, see scaled_ig/representations/occupancy.py. */
#include <math.h>
#include <stdlib.h>

typedef struct {
    int low[3], high[3]; /* first and last of the cells along each axis in which something may be; low > high: nothing */
} Box;

static Box bounds(const unsigned char *hull, int size) {
    Box box = {{size, size, size}, {-1, -1, -1}};
    for (int x = 0; x < size; ++x)
        for (int y = 0; y < size; ++y) {
            int first = size, last = -1;
            const unsigned char *row = hull + ((long)x * size + y) * (size / 8);
            for (int b = 0; b < size / 8; ++b)
                if (row[b]) {
                    if (last < 0) first = 8 * b + __builtin_ctz(row[b]);
                    last = 8 * b + 31 - __builtin_clz(row[b]);
                }
            if (last < 0) continue;
            const int at[3] = {x, y, first}, end[3] = {x, y, last};
            for (int a = 0; a < 3; ++a) {
                box.low[a] = at[a] < box.low[a] ? at[a] : box.low[a];
                box.high[a] = end[a] > box.high[a] ? end[a] : box.high[a];
            }
        }
    return box;
}

/* Where the ray o + t d, from t = start on, enters its first cell whose bit is set: cells are passed one by one, from each to
 * its neighbour behind the nearest of three planes. `stop` where there is none before. */
static float first_cell(const unsigned char *hull, int size, float radius, const float *o, const float *d, float start,
                        float stop) {
    const float per_unit = size / (2 * radius);
    float next[3], step[3], t = start;
    int cell[3], way[3];
    for (int a = 0; a < 3; ++a) {
        int c = (int)floorf((o[a] + start * d[a] + radius) * per_unit);
        c = c < 0 ? 0 : c >= size ? size - 1 : c;
        cell[a] = c;
        way[a] = d[a] > 0 ? 1 : -1;
        step[a] = fabsf(d[a]) < 1e-12f ? 1e30f : fabsf(1 / (per_unit * d[a]));
        next[a] = fabsf(d[a]) < 1e-12f ? 1e30f : ((c + (d[a] > 0)) / per_unit - radius - o[a]) / d[a];
    }
    while (t < stop) {
        const long place = ((long)cell[0] * size + cell[1]) * size + cell[2];
        const int a = next[0] < next[1] ? (next[0] < next[2] ? 0 : 2) : (next[1] < next[2] ? 1 : 2);
        if (hull[place >> 3] >> (place & 7) & 1 && next[a] > t) return t;
        t = next[a];
        cell[a] += way[a];
        if (cell[a] < 0 || cell[a] >= size) break;
        next[a] += step[a];
    }
    return stop;
}

/* near, far [N]: where the rays first ... last enter the first and leave the last cell whose bit is set; far < near where
 * there is none. Slots are those of `scenes` hulls. */
void hull_limits(int scenes, int size, float radius, const long *slot, const float *origins, const float *directions,
                 const unsigned char *bits, float *near, float *far, long first, long last) {
    const long bytes = (long)size * size * size / 8;
    Box *boxes = malloc(sizeof(Box) * scenes);
    for (int s = 0; s < scenes; ++s) boxes[s].high[0] = -2; /* not looked at yet */
    for (long n = first; n < last; ++n) {
        const unsigned char *hull = bits + slot[n] * bytes;
        Box *box = boxes + slot[n];
        if (box->high[0] == -2) *box = bounds(hull, size);
        const float *o = origins + 3 * n, *d = directions + 3 * n;
        float enter = 0, leave = box->high[0] < 0 ? -1 : 1e30f, back[3];
        for (int a = 0; a < 3; ++a) {
            const float low = box->low[a] * (2 * radius) / size - radius;
            const float high = (box->high[a] + 1) * (2 * radius) / size - radius;
            if (fabsf(d[a]) < 1e-12f) {
                if (o[a] < low || o[a] >= high) leave = -1;
                continue;
            }
            const float at_low = (low - o[a]) / d[a], at_high = (high - o[a]) / d[a];
            enter = fmaxf(enter, fminf(at_low, at_high));
            leave = fminf(leave, fmaxf(at_low, at_high));
        }
        near[n] = enter < leave ? first_cell(hull, size, radius, o, d, enter, leave) : leave;
        far[n] = near[n] - 1;
        if (!(near[n] < leave)) continue;
        /* The last cell is the first one of the way back. */
        for (int a = 0; a < 3; ++a) back[a] = -d[a];
        far[n] = -first_cell(hull, size, radius, o, back, -leave, -near[n]);
    }
    free(boxes);
}
