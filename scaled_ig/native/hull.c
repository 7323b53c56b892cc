/* Rays through the cells of visual hulls, see scaled_ig/occupancy.py. */
#include <math.h>

/* near, far [N]: where rays first ... last enter the first and leave the last cell whose bit is set; far < near where
 * there is none. Cells are passed one by one, from each to its neighbour behind the nearest of three planes. */
void hull_limits(int size, float radius, const long *slot, const float *origins, const float *directions,
                 const unsigned char *bits, float *near, float *far, long first, long last) {
    const long bytes = (long)size * size * size / 8;
    const float per_unit = size / (2 * radius);
    for (long n = first; n < last; ++n) {
        const unsigned char *hull = bits + slot[n] * bytes;
        float enter = 0, leave = 1e30f, next[3], step[3];
        int cell[3], way[3];
        for (int a = 0; a < 3; ++a) {
            const float o = origins[3 * n + a], d = directions[3 * n + a];
            if (fabsf(d) < 1e-12f) {
                if (fabsf(o) >= radius) leave = -1;
                continue;
            }
            const float one = (-radius - o) / d, two = (radius - o) / d;
            enter = fmaxf(enter, fminf(one, two));
            leave = fminf(leave, fmaxf(one, two));
        }
        near[n] = 0;
        far[n] = -1;
        if (enter >= leave) continue;
        for (int a = 0; a < 3; ++a) {
            const float o = origins[3 * n + a], d = directions[3 * n + a];
            int c = (int)floorf((o + enter * d + radius) * per_unit);
            c = c < 0 ? 0 : c >= size ? size - 1 : c;
            cell[a] = c;
            way[a] = d > 0 ? 1 : -1;
            step[a] = fabsf(d) < 1e-12f ? 1e30f : fabsf(1 / (per_unit * d));
            next[a] = fabsf(d) < 1e-12f ? 1e30f : ((c + (d > 0)) / per_unit - radius - o) / d;
        }
        float t = enter;
        while (t < leave) {
            const int a = next[0] < next[1] ? (next[0] < next[2] ? 0 : 2) : (next[1] < next[2] ? 1 : 2);
            const float behind = fminf(next[a], leave);
            const long place = ((long)cell[0] * size + cell[1]) * size + cell[2];
            if (hull[place >> 3] >> (place & 7) & 1) {
                if (far[n] < 0) near[n] = t;
                far[n] = behind;
            }
            t = behind;
            cell[a] += way[a];
            if (cell[a] < 0 || cell[a] >= size) break;
            next[a] += step[a];
        }
    }
}
