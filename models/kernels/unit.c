/* A convolution that sees some of its input channels only, behind a depthwise one or not, in one pass (see unit.py).

   Images are NHWC. Output pixels are taken in blocks, a few columns of a few lines, small enough that what belongs to
   one stays in cache; the lines of all images follow each other:
   1. A table gets, for each tap and each pixel of the block, the address of the input that the pixel sees through the
      tap; outside the image that is a row of zeros.
   2. With a depthwise convolution, its outputs go into a buffer, and the table then points there, with a single tap.
      3x3 ones are made for STRIP neighbours of a line at a time, which need no table. The outputs of `multiplier`
      filters for each input lie one set behind the other. Some channels of the whole block come before the next ones,
      so that its lines stay in the first cache.
   3. Each panel of output channels is multiplied with all pixels of the block, MR at a time: their sums stay in
      registers. A panel has one or two vectors of outputs and a list of runs of input channels, those that any of its
      outputs sees; its weights are packed as [tap][input of the runs][outputs].
   4. Bias, residual, ReLU, scale, shift, second residual and second ReLU follow before a sum is stored.

   For training, `weight_gradient` multiplies the same inputs with the gradients of the outputs, and sums over pixels. */
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
#define COLUMNS 16          /* the most columns in a block */
#define GROUP 64            /* channels of the depthwise convolution that are made for the whole block at a time */
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

typedef struct { row *table; float *buffer; const float *zeros; i64 pixels[BLOCK]; } Worker; /* pixels: of the output */

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

/* How many output columns, from 0 on, have their tap s left of the input column `border`. */
static i64 columns_before(const Unit *p, i64 s, i64 border) {
    i64 reach = border + p->pw - s * p->dw;
    i64 columns = reach <= 0 ? 0 : (reach + p->sw - 1) / p->sw;
    return least(columns, p->wo);
}

/* Fill the table for the pixels `column` to `column + count` of one line; `pitch` lies between two taps of a pixel. */
static void line_of_table(const Unit *p, row *table, i64 pitch, row zeros, i64 line, i64 column, i64 count) {
    i64 image = line / p->ho, y = line % p->ho;
    i64 step = p->sw * p->c;
    for (i64 r = 0; r < p->kh; r++) {
        i64 from = y * p->sh - p->ph + r * p->dh;
        for (i64 s = 0; s < p->kw; s++) {
            row *to = table + (r * p->kw + s) * pitch;
            i64 first = columns_before(p, s, 0) - column, last = columns_before(p, s, p->w) - column;
            first = first < 0 ? 0 : least(first, count), last = last < first ? first : least(last, count);
            if (from < 0 || from >= p->h) first = last = 0;
            row x = p->x + ((image * p->h + from) * p->w + column * p->sw - p->pw + s * p->dw) * p->c;
            for (i64 i = 0; i < first; i++) to[i] = zeros;
            for (i64 i = first; i < last; i++) to[i] = x + i * step;
            for (i64 i = last; i < count; i++) to[i] = zeros;
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

/* Weights are packed as [LANES channels][tap][channel], with the last LANES channels in the last group where there are
   as many, else with zeros behind the last channel. */
INLINE const float *weights(const Unit *p, i64 set, i64 channel) {
    i64 taps = p->kh * p->kw, groups = (p->c + LANES - 1) / LANES;
    return p->depthwise + (set * groups + channel / LANES) * taps * LANES;
}

/* Where the group that holds `channel` begins: so that the last one repeats channels rather than reads behind them. */
INLINE i64 group_start(const Unit *p, i64 channel) { return channel + LANES > p->c ? p->c - LANES : channel; }

typedef struct { i64 line, column, count; } Part; /* neighbours in one line of the output */

static int in_strips(const Unit *p, i64 count) {
    return p->kh == 3 && p->kw == 3 && p->dw == 1 && p->sw <= 2 && count >= STRIP && p->c >= LANES;
}

/* The channels `first` to `last` of STRIP neighbours from `part` on; size x size taps, `stride` columns apart. */
INLINE void strip(const Unit *p, const Worker *k, Part part, i64 set, i64 first, i64 last, float *out, int size,
                  int stride) {
    const int across = (STRIP - 1) * stride + size;
    row x[3][(STRIP - 1) * 2 + 3];
    i64 top = part.line % p->ho * p->sh - p->ph, left = part.column * stride - p->pw;
    for (int r = 0; r < size; r++) {
        i64 y = top + r * p->dh;
        row line = p->x + ((part.line / p->ho * p->h + y) * p->w + left) * p->c;
        for (int j = 0; j < across; j++)
            x[r][j] = y >= 0 && y < p->h && left + j >= 0 && left + j < p->w ? line + j * p->c : k->zeros;
    }
    i64 width = p->c * p->multiplier;
    const float *weight = weights(p, set, first), *bias = p->depthwise_bias ? p->depthwise_bias + set * p->c : NULL;
    for (i64 group = first; group < last; group += LANES, weight += size * size * LANES) {
        i64 i = group_start(p, group);
        vec sums[STRIP] = {0};
        if (bias)
            for (int m = 0; m < STRIP; m++) sums[m] = load(bias + i);
        for (int r = 0; r < size; r++) {
            vec v[(STRIP - 1) * 2 + 3];
            for (int j = 0; j < across; j++) v[j] = load(x[r][j] + i);
            for (int s = 0; s < size; s++) {
                vec w = hold(load(weight + (r * size + s) * LANES));
                for (int m = 0; m < STRIP; m++) sums[m] += v[m * stride + s] * w;
            }
        }
        for (int m = 0; m < STRIP; m++) store(out + m * width + i, clamp(p, sums[m]));
    }
}

/* One pixel, any kernel, any number of channels. */
static void alone(const Unit *p, const row *table, i64 set, i64 first, i64 last, float *out) {
    i64 taps = p->kh * p->kw;
    const float *weight = weights(p, set, first), *bias = p->depthwise_bias ? p->depthwise_bias + set * p->c : NULL;
    if (p->c < LANES) /* one group, filled up with zeros */
        for (i64 i = 0; i < last; i++) {
            float sum = bias ? bias[i] : 0;
            for (i64 t = 0; t < taps; t++) sum += table[t * BLOCK][i] * weight[t * LANES + i];
            out[i] = clamp_one(p, sum);
        }
    else
        for (i64 group = first; group < last; group += LANES, weight += taps * LANES) {
            i64 i = group_start(p, group);
            vec sum = {0};
            if (bias) sum = load(bias + i);
            for (i64 t = 0; t < taps; t++) sum += load(table[t * BLOCK] + i) * load(weight + t * LANES);
            store(out + i, clamp(p, sum));
        }
}

/* The channels `first` to `last` of the pixels of `part`, which begin at `at` in the block. */
static void depthwise_line(const Unit *p, const Worker *k, i64 set, i64 first, i64 last, Part part, i64 at) {
    i64 width = p->c * p->multiplier, count = part.count;
    int strips = in_strips(p, count);
    float *out = k->buffer + at * width + set * p->c;
    for (i64 m = 0; strips && m < count; m += STRIP) {
        if (m > count - STRIP) m = count - STRIP; /* the last strip repeats some pixels */
        Part own = {part.line, part.column + m, STRIP};
        if (p->sw == 1) strip(p, k, own, set, first, last, out + m * width, 3, 1);
        else strip(p, k, own, set, first, last, out + m * width, 3, 2);
    }
    for (i64 m = 0; !strips && m < count; m++) alone(p, k->table + at + m, set, first, last, out + m * width);
}

static void depthwise_block(const Unit *p, const Worker *k, i64 lines, Part part) {
    for (i64 set = 0; set < p->multiplier; set++)
        for (i64 first = 0; first < p->c; first += GROUP)
            for (i64 i = 0; i < lines; i++) {
                Part own = {part.line + i, part.column, part.count};
                depthwise_line(p, k, set, first, least(first + GROUP, p->c), own, i * part.count);
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

/* `rows` pixels, all taps, one panel. */
INLINE void tile(const Unit *p, const Panel *panel, const row *table, i64 taps, const i64 *pixels, int rows,
                 int vectors) {
    vec sums[MR][2];
    i64 channel = panel->channel, t = p->t, at[MR];
    for (int v = 0; v < vectors; v++) {
        vec bias = {0};
        if (p->bias) bias = load_some(p->bias + channel + v * LANES, t);
        for (int m = 0; m < rows; m++) sums[m][v] = bias;
    }
    for (int m = 0; m < rows; m++) at[m] = pixels[m] * t;
    if (t >= LANES) /* so that what follows the sums does not wait for memory */
        for (int m = 0; m < rows; m++)
            for (int v = 0; v < vectors; v++) {
                i64 place = at[m] + channel + v * LANES;
                if (p->inner_residual) __builtin_prefetch(p->inner_residual + place);
                if (p->residual) __builtin_prefetch(p->residual + place);
                __builtin_prefetch(p->out + place, 1); /* about to be written */
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
    if (t < LANES)
        for (int m = 0; m < rows; m++) finish_few(p, sums[m][0], at[m]);
    else { /* not in a loop, in which the sums would leave the registers */
        finish(p, sums, 0, at, channel, rows);
        if (vectors == 2) finish(p, sums, 1, at, channel + LANES, rows);
    }
}

static void project(const Unit *p, const Worker *k, i64 taps, i64 count) {
    for (const Panel *panel = p->panels; panel < p->panels + p->num_panels; panel++)
        for (i64 m = 0; m < count;) {
            const row *table = k->table + m;
            const i64 *pixels = k->pixels + m;
            if (count - m > MR / 2) {
                if (panel->vectors == 2) tile(p, panel, table, taps, pixels, MR, 2);
                else tile(p, panel, table, taps, pixels, MR, 1);
                m += MR;
            } else {
                if (panel->vectors == 2) tile(p, panel, table, taps, pixels, MR / 2, 2);
                else tile(p, panel, table, taps, pixels, MR / 2, 1);
                m += MR / 2;
            }
        }
}

/* ---- blocks ---- */

typedef struct { i64 lines, columns; } Size;

static void block(const Unit *p, Worker *k, i64 first_line, i64 column, Size size) {
    i64 count = size.lines * size.columns, taps = p->kh * p->kw, width = p->c * p->multiplier;
    int tabled = !p->depthwise || !in_strips(p, size.columns);
    for (i64 i = 0; i < size.lines; i++) {
        i64 line = first_line + i, at = i * size.columns;
        if (tabled) line_of_table(p, k->table + at, BLOCK, k->zeros, line, column, size.columns);
        for (i64 j = 0; j < size.columns; j++) k->pixels[at + j] = line * p->wo + column + j;
    }
    if (p->depthwise) {
        depthwise_block(p, k, size.lines, (Part){first_line, column, size.columns});
        for (i64 i = 0; i < count; i++) k->table[i] = k->buffer + i * width;
        taps = 1;
    }
    for (i64 i = count; i < (count + MR - 1) / MR * MR; i++) { /* the rest of a tile repeats the last pixel */
        for (i64 tap = 0; tap < taps; tap++) k->table[tap * BLOCK + i] = k->table[tap * BLOCK + count - 1];
        k->pixels[i] = k->pixels[count - 1];
    }
    project(p, k, taps, count);
}

static i64 parts(i64 size, i64 most) { return (size + most - 1) / most; }

/* Columns and lines that divide the images about equally, and among the threads. */
static Size block_size(const Unit *p) {
    i64 columns = parts(p->wo, parts(p->wo, COLUMNS)), lines = p->n * p->ho;
    i64 most = least(BLOCK / columns, parts(lines, parts(p->threads, parts(p->wo, columns))));
    return (Size){parts(lines, parts(lines, most)), columns};
}

/* 0, or 1 where there was no memory. */
int unit(const Unit *p) {
    Size size = block_size(p);
    i64 lines = p->n * p->ho, across = parts(p->wo, size.columns), blocks = parts(lines, size.lines) * across;
    i64 width = p->c * p->multiplier, failed = 0;
    float *zeros = calloc(width + LANES, sizeof(float));
    if (!zeros) return 1;
#ifdef _OPENMP
#pragma omp parallel num_threads(p->threads) if (p->threads > 1 && blocks > 1)
#endif
    {
        Worker k = {.table = malloc(p->kh * p->kw * BLOCK * sizeof(row)), .zeros = zeros};
        /* Whole vectors that do not cross cache lines where the number of channels allows it. */
        if (p->depthwise && k.table) k.buffer = aligned_alloc(64, (BLOCK * width * sizeof(float) + 63) / 64 * 64);
        int ready = k.table && (k.buffer || !p->depthwise);
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (i64 i = 0; i < blocks; i++) {
            i64 line = i / across * size.lines, column = i % across * size.columns;
            Size own = {least(size.lines, lines - line), least(size.columns, p->wo - column)};
            if (ready) block(p, &k, line, column, own);
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

/* ---- the gradient of the projection's weights ---- */

#define PIXELS 384 /* about as many are summed before the sums leave the registers */
#define INPUTS 8   /* inputs whose sums stay in registers */

/* The gradients of the outputs, and what the inputs are read through: for `count` pixels from `first` on. */
typedef struct { const row *table; i64 pitch, first, count; } Pixels;

/* Add the products of `inputs` inputs, from `channel` on, and a panel's output gradients, `g`, to `sums`. */
INLINE void outer(const Unit *p, const row *table, i64 count, const float *g, i64 channel, float *sums, int inputs,
                  int vectors) {
    vec own[INPUTS][2];
    for (int i = 0; i < inputs; i++)
        for (int v = 0; v < vectors; v++) own[i][v] = load(sums + (i * vectors + v) * LANES);
    for (i64 m = 0; m < count; m++, g += p->t) {
        row x = table[m] + channel;
        vec b[2];
        for (int v = 0; v < vectors; v++) b[v] = p->t < LANES ? load_some(g, p->t) : hold(load(g + v * LANES));
        for (int i = 0; i < inputs; i++)
            for (int v = 0; v < vectors; v++) own[i][v] += x[i] * b[v];
    }
    for (int i = 0; i < inputs; i++)
        for (int v = 0; v < vectors; v++) store(sums + (i * vectors + v) * LANES, own[i][v]);
}

INLINE void panel_gradient(const Unit *p, const Panel *panel, const Pixels *o, i64 taps, float *sums, int vectors) {
    const float *g = p->residual + o->first * p->t + panel->channel;
    for (i64 tap = 0; tap < taps; tap++)
        for (const Run *run = p->runs + panel->first_run; run < p->runs + panel->last_run; run++)
            for (i64 i = 0, step; i < run->count; i += step, sums += step * vectors * LANES) {
                const row *table = o->table + tap * o->pitch;
                i64 left = run->count - i, channel = run->first + i;
                step = left >= INPUTS ? INPUTS : left >= INPUTS / 2 ? INPUTS / 2 : 1;
                if (step == INPUTS) outer(p, table, o->count, g, channel, sums, INPUTS, vectors);
                else if (step == 1) outer(p, table, o->count, g, channel, sums, 1, vectors);
                else outer(p, table, o->count, g, channel, sums, INPUTS / 2, vectors);
            }
}

/* Some lines of the output. */
static void block_gradient(const Unit *p, row *table, row zeros, i64 line, i64 lines, float *sums) {
    Pixels o = {table, lines * p->wo, line * p->wo, lines * p->wo};
    for (i64 i = 0; i < lines; i++) line_of_table(p, table + i * p->wo, o.pitch, zeros, line + i, 0, p->wo);
    for (const Panel *panel = p->panels; panel < p->panels + p->num_panels; panel++)
        if (panel->vectors == 2) panel_gradient(p, panel, &o, p->kh * p->kw, sums + panel->weight, 2);
        else panel_gradient(p, panel, &o, p->kh * p->kw, sums + panel->weight, 1);
}

/* `residual` is the gradient of the output, `out` becomes that of the weights: `size` of them, packed as they are.
   Each thread has sums of its own, added in their order, so that the result depends on their number alone. */
int weight_gradient(const Unit *p, i64 size) {
    i64 lines = p->n * p->ho, most = PIXELS / p->wo, failed = 0;
    most = least(most < 1 ? 1 : most, parts(lines, p->threads));
    most = parts(lines, parts(lines, most));
    i64 blocks = parts(lines, most);
    float *zeros = calloc(p->c + LANES, sizeof(float)), *sums = calloc(p->threads * size, sizeof(float));
#ifdef _OPENMP
#pragma omp parallel num_threads(p->threads) if (p->threads > 1 && blocks > 1)
#endif
    {
        row *table = malloc(p->kh * p->kw * most * p->wo * sizeof(row));
        float *own = sums;
#ifdef _OPENMP
        if (sums) own += omp_get_thread_num() * size;
#pragma omp for schedule(static)
#endif
        for (i64 i = 0; i < blocks; i++)
            if (table && zeros && sums) block_gradient(p, table, zeros, i * most, least(most, lines - i * most), own);
            else
#ifdef _OPENMP
#pragma omp atomic write
#endif
                failed = 1;
        free(table);
    }
    for (i64 i = 0; !failed && i < size; i++) {
        float sum = 0;
        for (i64 t = 0; t < p->threads; t++) sum += sums[t * size + i];
        p->out[i] = sum;
    }
    free(sums);
    free(zeros);
    return failed;
}

int lanes(void) { return LANES; }
