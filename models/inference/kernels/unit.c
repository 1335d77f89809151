/* A convolution that sees some of its input channels only, behind a depthwise one or not, in one pass (see unit.py).

   Images are NHWC. Output pixels are taken in blocks small enough that what belongs to one stays in cache:
   1. A table gets, for each tap and each pixel of the block, the address of the input that the pixel sees through the
      tap; outside the image that is a row of zeros.
   2. With a depthwise convolution, its outputs go into a buffer, STRIP neighbours of a row at a time, and the table then
      points there, with a single tap. The outputs of `multiplier` filters for each input lie one set behind the other.
   3. Each panel of output channels is multiplied with all pixels of the block, MR at a time: their sums stay in
      registers. A panel has one or two vectors of outputs and a list of runs of input channels, those that any of its
      outputs sees; its weights are packed as [tap][input of the runs][outputs].
   4. Bias, residual, ReLU, scale, shift, second residual and second ReLU follow before a sum is stored. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define MR 12
#elif defined(__AVX__)
#define LANES 8
#define MR 6
#else
#define LANES 4
#define MR 6
#endif
#define STRIP 4             /* pixels of a row whose depthwise outputs are made together */
#define BLOCK (4 * MR)      /* the most pixels in a block */
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float memory __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* a vec at any address */
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef int64_t i64;
typedef const float *row;

typedef struct { i64 weight, channel, vectors, first_run, last_run; } Panel; /* weight: offset; last_run: exclusive */
typedef struct { i64 first, count; } Run;

/* What Python passes; sizes in elements. A pointer that may be absent is NULL. */
typedef struct {
    const float *x, *depthwise, *depthwise_bias, *weight, *bias, *inner_residual, *scale, *shift, *residual;
    float *out;
    const Panel *panels;
    const Run *runs;
    i64 n, c, h, w, t, ho, wo, multiplier, num_panels;
    i64 kh, kw, sh, sw, ph, pw, dh, dw; /* kernel, stride, padding, dilation */
    i64 clamps, inner_relu, relu, threads; /* clamps: the depthwise outputs, to 0 and `ceiling` */
    float ceiling;
} Unit;

typedef struct { row *table; float *buffer; const float *zeros; } Worker;

INLINE vec load(const float *p) { return *(const memory *)p; }

INLINE void store(float *p, vec v) { *(memory *)p = v; }

/* The first `count` numbers, at most LANES of them, and zeros behind them. */
INLINE vec load_some(const float *p, i64 count) {
    vec v = {0};
    memcpy(&v, p, (count < LANES ? count : LANES) * sizeof(float));
    return v;
}

/* Keep v in a register: otherwise each multiply-add that uses it loads it again. */
INLINE vec hold(vec v) {
#ifdef __x86_64__
    __asm__("" : "+v"(v));
#endif
    return v;
}

INLINE vec relu(vec v) { return (vec)((ivec)v & ~(ivec)(v < 0)); } /* NaN stays NaN, as in torch */

/* ---- where the pixels of a block see the image ---- */

static i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* How many output columns, from 0 on, have their tap s left of the image; `past`: left of the image's end. */
static i64 columns_before(const Unit *p, i64 s, i64 border) {
    i64 reach = border + p->pw - s * p->dw;
    i64 columns = reach <= 0 ? 0 : (reach + p->sw - 1) / p->sw;
    return least(columns, p->wo);
}

/* Fill the rows of the table for the pixels `column` to `column + count` of one row, at `at` in the block. */
static void row_of_table(const Unit *p, const Worker *k, i64 image, i64 y, i64 column, i64 count, i64 at) {
    i64 step = p->sw * p->c;
    for (i64 r = 0; r < p->kh; r++) {
        i64 from = y * p->sh - p->ph + r * p->dh;
        for (i64 s = 0; s < p->kw; s++) {
            row *to = k->table + (r * p->kw + s) * BLOCK + at;
            i64 first = columns_before(p, s, 0) - column, last = columns_before(p, s, p->w) - column;
            first = first < 0 ? 0 : least(first, count), last = last < first ? first : least(last, count);
            if (from < 0 || from >= p->h) first = last = 0;
            row x = p->x + ((image * p->h + from) * p->w + column * p->sw - p->pw + s * p->dw) * p->c;
            for (i64 i = 0; i < first; i++) to[i] = k->zeros;
            for (i64 i = first; i < last; i++) to[i] = x + i * step;
            for (i64 i = last; i < count; i++) to[i] = k->zeros;
        }
    }
}

/* ---- depthwise ---- */

/* NaN stays NaN, as in torch. */
INLINE vec clamp(const Unit *p, vec v) {
    if (!p->clamps) return v;
    vec ceiling = (vec){0} + p->ceiling;
    ivec above = v > ceiling;
    return (vec)(((ivec)relu(v) & ~above) | ((ivec)ceiling & above));
}

static float clamp_one(const Unit *p, float f) { return !p->clamps ? f : f < 0 ? 0 : f > p->ceiling ? p->ceiling : f; }

/* `count` channels of STRIP pixels next to each other, all taps of KH x KW; STRIDE is their distance in columns. */
INLINE void strip(const Unit *p, const row *table, const float *weight, const float *bias, float *out, i64 width,
                  int size, int stride) {
    const int across = (STRIP - 1) * stride + size;
    row x[3][(STRIP - 1) * 2 + 3];
    for (int r = 0; r < size; r++)
        for (int j = 0; j < across; j++) { /* each column once, through the first tap that sees it */
            int m = j / stride < STRIP - 1 ? j / stride : STRIP - 1, s = j - m * stride;
            x[r][j] = table[(r * size + s) * BLOCK + m];
        }
    i64 c = p->c, whole = c / LANES * LANES;
    for (i64 i = 0; i < whole; i += LANES) {
        vec sums[STRIP] = {0};
        if (bias)
            for (int m = 0; m < STRIP; m++) sums[m] = load(bias + i);
        for (int r = 0; r < size; r++) {
            vec v[(STRIP - 1) * 2 + 3];
            for (int j = 0; j < across; j++) v[j] = load(x[r][j] + i);
            for (int s = 0; s < size; s++) {
                vec w = hold(load(weight + (r * size + s) * c + i));
                for (int m = 0; m < STRIP; m++) sums[m] += v[m * stride + s] * w;
            }
        }
        for (int m = 0; m < STRIP; m++) store(out + m * width + i, clamp(p, sums[m]));
    }
    if (whole < c)
        for (int m = 0; m < STRIP; m++)
            for (i64 i = whole; i < c; i++) {
                float sum = bias ? bias[i] : 0;
                for (int r = 0; r < size; r++)
                    for (int s = 0; s < size; s++) sum += x[r][m * stride + s][i] * weight[(r * size + s) * c + i];
                out[m * width + i] = clamp_one(p, sum);
            }
}

/* One pixel, any kernel. */
static void alone(const Unit *p, const row *table, const float *weight, const float *bias, float *out) {
    i64 c = p->c, taps = p->kh * p->kw, i = 0;
    for (; i + LANES <= c; i += LANES) {
        vec sum = {0};
        if (bias) sum = load(bias + i);
        for (i64 t = 0; t < taps; t++) sum += load(table[t * BLOCK] + i) * load(weight + t * c + i);
        store(out + i, clamp(p, sum));
    }
    for (; i < c; i++) {
        float sum = bias ? bias[i] : 0;
        for (i64 t = 0; t < taps; t++) sum += table[t * BLOCK][i] * weight[t * c + i];
        out[i] = clamp_one(p, sum);
    }
}

/* The depthwise outputs of `count` pixels of one row, at `at` in the block. */
static void depthwise_row(const Unit *p, const Worker *k, i64 count, i64 at) {
    i64 width = p->c * p->multiplier, taps = p->kh * p->kw;
    int strips = p->kh == 3 && p->kw == 3 && p->dw == 1 && p->sw <= 2 && count >= STRIP;
    for (i64 set = 0; set < p->multiplier; set++) {
        const float *weight = p->depthwise + set * taps * p->c;
        const float *bias = p->depthwise_bias ? p->depthwise_bias + set * p->c : NULL;
        float *out = k->buffer + at * width + set * p->c;
        for (i64 m = 0; m < count; m += strips ? STRIP : 1) {
            if (strips && m > count - STRIP) m = count - STRIP; /* the last strip repeats some pixels */
            const row *table = k->table + at + m;
            if (!strips) alone(p, table, weight, bias, out + m * width);
            else if (p->sw == 1) strip(p, table, weight, bias, out + m * width, width, 3, 1);
            else strip(p, table, weight, bias, out + m * width, width, 3, 2);
        }
    }
}

/* ---- projection ---- */

/* What follows the sums of `rows` pixels in LANES channels that all exist; at[m]: a pixel's place in the output. */
INLINE void finish(const Unit *p, vec sums[MR][2], int v, const i64 *at, i64 channel, int rows) {
    if (p->inner_residual)
        for (int m = 0; m < rows; m++) sums[m][v] += load(p->inner_residual + at[m] + channel);
    if (p->inner_relu)
        for (int m = 0; m < rows; m++) sums[m][v] = relu(sums[m][v]);
    if (p->scale) {
        vec scale = load(p->scale + channel), shift = load(p->shift + channel);
        for (int m = 0; m < rows; m++) sums[m][v] = sums[m][v] * scale + shift;
    }
    if (p->residual)
        for (int m = 0; m < rows; m++) sums[m][v] += load(p->residual + at[m] + channel);
    if (p->relu)
        for (int m = 0; m < rows; m++) sums[m][v] = relu(sums[m][v]);
    for (int m = 0; m < rows; m++) store(p->out + at[m] + channel, sums[m][v]);
}

/* The same for one pixel and the only, fewer than LANES, channels. */
static void finish_few(const Unit *p, vec v, i64 at) {
    for (i64 i = 0; i < p->t; i++) {
        float f = v[i];
        if (p->inner_residual) f += p->inner_residual[at + i];
        if (p->inner_relu && f < 0) f = 0;
        if (p->scale) f = f * p->scale[i] + p->shift[i];
        if (p->residual) f += p->residual[at + i];
        p->out[at + i] = p->relu && f < 0 ? 0 : f;
    }
}

/* The first `count` of `rows` pixels, all taps, one panel. */
INLINE void tile(const Unit *p, const Panel *panel, const row *table, i64 taps, i64 pixel, i64 count, int rows,
                 int vectors) {
    vec sums[MR][2];
    i64 channel = panel->channel, t = p->t, at[MR];
    for (int v = 0; v < vectors; v++) {
        vec bias = {0};
        if (p->bias) bias = load_some(p->bias + channel + v * LANES, t);
        for (int m = 0; m < rows; m++) sums[m][v] = bias;
    }
    const float *w = p->weight + panel->weight;
    for (i64 tap = 0; tap < taps; tap++) {
        row x[MR];
        for (int m = 0; m < rows; m++) x[m] = table[tap * BLOCK + m];
        i64 seen = 0;
        for (const Run *run = p->runs + panel->first_run; run < p->runs + panel->last_run; run++) {
            i64 last = run->first + run->count;
            for (int m = 0; m < rows; m++) x[m] += last - seen;
            seen = last;
            for (i64 i = -run->count; i; i++, w += vectors * LANES) { /* up to 0: it takes one register less */
                vec b[2];
                for (int v = 0; v < vectors; v++) b[v] = hold(load(w + v * LANES));
                for (int m = 0; m < rows; m++)
                    for (int v = 0; v < vectors; v++) sums[m][v] += x[m][i] * b[v];
            }
        }
    }
    for (int m = 0; m < rows; m++) at[m] = (pixel + least(m, count - 1)) * t; /* the last one again and again */
    if (t < LANES)
        for (int m = 0; m < rows; m++) finish_few(p, sums[m][0], at[m]);
    else
        for (int v = 0; v < vectors; v++) finish(p, sums, v, at, channel + v * LANES, rows);
}

static void project(const Unit *p, const row *table, i64 taps, i64 pixel, i64 count) {
    for (const Panel *panel = p->panels; panel < p->panels + p->num_panels; panel++)
        for (i64 m = 0; m < count;) {
            i64 left = count - m;
            if (left > MR / 2) {
                if (panel->vectors == 2) tile(p, panel, table + m, taps, pixel + m, left, MR, 2);
                else tile(p, panel, table + m, taps, pixel + m, left, MR, 1);
                m += MR;
            } else {
                if (panel->vectors == 2) tile(p, panel, table + m, taps, pixel + m, left, MR / 2, 2);
                else tile(p, panel, table + m, taps, pixel + m, left, MR / 2, 1);
                m += MR / 2;
            }
        }
}

/* ---- blocks ---- */

static void block(const Unit *p, const Worker *k, i64 first, i64 count) {
    i64 taps = p->kh * p->kw;
    for (i64 at = 0; at < count;) {
        i64 pixel = first + at, column = pixel % p->wo, line = pixel / p->wo;
        i64 in_row = least(p->wo - column, count - at);
        row_of_table(p, k, line / p->ho, line % p->ho, column, in_row, at);
        if (p->depthwise) depthwise_row(p, k, in_row, at);
        at += in_row;
    }
    i64 width = p->c * p->multiplier;
    if (p->depthwise)
        for (i64 i = 0; i < count; i++) k->table[i] = k->buffer + i * width;
    for (i64 tap = 0; tap < (p->depthwise ? 1 : taps); tap++) /* what is left of the last tile repeats its last pixel */
        for (i64 i = count; i < (count + MR - 1) / MR * MR; i++)
            k->table[tap * BLOCK + i] = k->table[tap * BLOCK + count - 1];
    project(p, k->table, p->depthwise ? 1 : taps, first, count);
}

/* Pixels in a block: about as many for each thread, half tiles at least. */
static i64 block_size(const Unit *p, i64 pixels) {
    i64 share = (pixels + p->threads - 1) / p->threads, blocks = (share + BLOCK - 1) / BLOCK;
    return ((share + blocks - 1) / blocks + MR / 2 - 1) / (MR / 2) * (MR / 2);
}

/* 0, or 1 where there was no memory. */
int unit(const Unit *p) {
    i64 pixels = p->n * p->ho * p->wo, size = block_size(p, pixels), blocks = (pixels + size - 1) / size;
    i64 width = p->c * p->multiplier, failed = 0;
    float *zeros = calloc(width + LANES, sizeof(float));
    if (!zeros) return 1;
#ifdef _OPENMP
#pragma omp parallel num_threads(p->threads) if (p->threads > 1 && blocks > 1)
#endif
    {
        Worker k = {malloc(p->kh * p->kw * BLOCK * sizeof(row)), NULL, zeros};
        /* Whole vectors that do not cross cache lines where the number of channels allows it. */
        if (p->depthwise && k.table) k.buffer = aligned_alloc(64, (BLOCK * width * sizeof(float) + 63) / 64 * 64);
        int ready = k.table && (k.buffer || !p->depthwise);
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (i64 i = 0; i < blocks; i++) {
            if (ready) block(p, &k, i * size, least(size, pixels - i * size));
            else
#ifdef _OPENMP
#pragma omp atomic write
#endif
                failed = 1;
        }
        free(k.buffer);
        free(k.table);
    }
    free(zeros);
    return failed;
}

int lanes(void) { return LANES; }
