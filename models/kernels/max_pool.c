/* Max pooling of NHWC images: first over the lines of a window, then over its columns (see max_pool.py).

   The maxima over lines of one line of the output go into a buffer that stays in cache, and serve all windows of it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

typedef int64_t i64;

typedef struct {
    const float *x;
    float *out;
    i64 n, c, h, w, ho, wo;
    i64 kh, kw, sh, sw, ph, pw, dh, dw; /* kernel, stride, padding, dilation */
    i64 threads;
} Pool;

/* The larger of each two in `to`; NaN where either is, as in torch. */
static void take_larger(float *restrict to, const float *restrict from, i64 count) {
    for (i64 i = 0; i < count; i++) to[i] = to[i] > from[i] || to[i] != to[i] ? to[i] : from[i];
}

/* The first of the places `first`, `first` + `step` and so on that is not before 0. */
static i64 first_inside(i64 first, i64 step) { return first >= 0 ? 0 : (step - 1 - first) / step; }

static void line(const Pool *p, i64 image, i64 y, float *maxima) {
    i64 row = p->w * p->c, top = y * p->sh - p->ph;
    int some = 0;
    for (i64 r = first_inside(top, p->dh); r < p->kh && top + r * p->dh < p->h; r++) {
        const float *from = p->x + (image * p->h + top + r * p->dh) * row;
        if (some) take_larger(maxima, from, row);
        else memcpy(maxima, from, row * sizeof(float));
        some = 1;
    }
    if (!some)
        for (i64 i = 0; i < row; i++) maxima[i] = -__builtin_inff();
    for (i64 j = 0; j < p->wo; j++) {
        float *out = p->out + ((image * p->ho + y) * p->wo + j) * p->c;
        i64 left = j * p->sw - p->pw;
        some = 0;
        for (i64 s = first_inside(left, p->dw); s < p->kw && left + s * p->dw < p->w; s++) {
            const float *from = maxima + (left + s * p->dw) * p->c;
            if (some) take_larger(out, from, p->c);
            else memcpy(out, from, p->c * sizeof(float));
            some = 1;
        }
        if (!some)
            for (i64 i = 0; i < p->c; i++) out[i] = -__builtin_inff();
    }
}

/* 0, or 1 where there was no memory. */
int max_pool(const Pool *p) {
    i64 lines = p->n * p->ho, failed = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads(p->threads) if (p->threads > 1 && lines > 1)
#endif
    {
        float *maxima = malloc(p->w * p->c * sizeof(float));
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (i64 i = 0; i < lines; i++)
            if (maxima) line(p, i / p->ho, i % p->ho, maxima);
            else
#ifdef _OPENMP
#pragma omp atomic write
#endif
                failed = 1;
        free(maxima);
    }
    return failed;
}
