/* What the mock model server and the load generator share: time, and a stamp that fits in a word. */
#ifndef HEADGATE_BENCH_COMMON_H
#define HEADGATE_BENCH_COMMON_H

#include <stdint.h>
#include <time.h>

/* Every word that the mock says is a stamp: 'Q', then the microsecond of its making in base 26 with
 * the digits a to z, then a space. It looks like a word, so that whatever reads text on its way
 * finds nothing of note in it. Both programs run on one machine and read the same clock. */
enum { STAMP_DIGITS = 7, STAMP_SIZE = STAMP_DIGITS + 2 };

static inline int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline int64_t stamp_range(void)
{
    int64_t range = 1; /* about 2.2 hours, in microseconds */
    for (int i = 0; i < STAMP_DIGITS; i++)
        range *= 26;
    return range;
}

static inline void write_stamp(char *out, int64_t t)
{
    out[0] = 'Q';
    for (int i = STAMP_DIGITS; i >= 1; i--, t /= 26)
        out[i] = (char)('a' + t % 26);
    out[STAMP_SIZE - 1] = ' ';
}

#endif
