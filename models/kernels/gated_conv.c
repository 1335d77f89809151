/* A convolution times its gate, computed only where the gate is open (see models/kernels/gated_conv.py).

   Images are NHWC, so the window of one output pixel is a few contiguous runs of memory. Row by row:
   1. The gate of every pixel is a dot product of its window with one filter: a few per cent of the work.
   2. Closed pixels get their constant at once. Open ones are put on a list, one list for each border class: pixels
      whose windows leave the image by the same taps. Within a class all windows have the same shape, so one set of
      offsets serves all of them, and taps outside the image cost nothing.
   3. When a block of open pixels is full, each panel of PANEL output channels is multiplied with all of them, MR pixels
      at a time: their sums stay in registers for the whole window (MR x 1 or 2 panels), each weight vector that is
      loaded serves MR pixels, and the panel stays in cache from tile to tile.
   4. Pixels that fill no tile wait for the next block. Those left at the end share tiles across classes, in which taps
      outside the image read a row of zeros.
   Weights are packed as [group][panel][tap][input channel][PANEL]. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define MR 6
#ifndef PANEL
#error "PANEL, the number of output channels in a panel, is defined by what compiles this file (native.py)"
#endif
#define MAX_PANELS (LANES == 16 ? 2 : 1) /* panels in a tile: as many as the registers hold the sums of */
#define BUNCH 4     /* pixels whose gates are summed together */
#define MAX_SPANS 9 /* spans of rows or columns with the same taps inside the image */
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float quad __attribute__((vector_size(16)));
typedef int32_t iquad __attribute__((vector_size(16)));
typedef int64_t i64;

/* What Python passes; sizes in elements. A pointer that may be absent is NULL. */
typedef struct {
    const float *x, *weight, *bias, *gate, *scale, *shift, *residual;
    float *out;
    i64 n, c, h, w, t, ho, wo, groups;
    i64 kh, kw, sh, sw, ph, pw, dh, dw; /* kernel, stride, padding, dilation */
    i64 gkh, gkw, gph, gpw;             /* kernel and padding of the gate; a negative padding cuts */
    i64 inner_relu, relu, threads;
    float gate_bias, gate_ceiling;
} Conv;

typedef struct { i64 first, last; } Range;
typedef struct { const float *x; uint32_t pixel; float gate; } Open; /* x: first tap of the window, maybe outside */
typedef struct { Range rows, columns; Open *open; i64 count; } Class; /* which taps are inside the image; its pixels */
typedef struct { Range taps; i64 end; } Span; /* of output rows or columns, up to `end`, with the same taps inside */

typedef struct {
    Span rows[MAX_SPANS], columns[MAX_SPANS];
    i64 num_rows, num_columns, waiting, block;
    Class classes[MAX_SPANS * MAX_SPANS + 1], *other; /* other: the last, for what belongs to no span */
    float *gates;
    const float *zeros;
} Worker;

static Range inside(i64 start, i64 step, i64 taps, i64 size) {
    i64 first = start >= 0 ? 0 : (-start + step - 1) / step;
    i64 last = size - 1 - start < 0 ? -1 : (size - 1 - start) / step;
    return (Range){first, last < taps - 1 ? last : taps - 1};
}

INLINE vec load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

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

INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

/* ---- gate ---- */

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (iquad){__VA_ARGS__})
#endif

/* Four numbers with the same sum as the lanes of v. */
INLINE quad fold(vec v) {
    quad q[LANES / 4];
    memcpy(q, &v, sizeof v);
    for (int i = 1; i < LANES / 4; i++) q[0] += q[i];
    return q[0];
}

/* The sums of the lanes of v[0] to v[3]. */
INLINE quad sum_lanes(const vec v[BUNCH]) {
    quad a = fold(v[0]), b = fold(v[1]), c = fold(v[2]), d = fold(v[3]);
    quad ab = SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7);
    quad cd = SHUFFLE(c, d, 0, 1, 4, 5) + SHUFFLE(c, d, 2, 3, 6, 7);
    return SHUFFLE(ab, cd, 0, 2, 4, 6) + SHUFFLE(ab, cd, 1, 3, 5, 7);
}

/* The sums of the gates of BUNCH neighbours: each input serves several of them. Of the pixels under their windows,
   those from `first` to `last` are in the image. */
INLINE void gate_bunch(const Conv *p, const float *window, Range rows, i64 first, i64 last, float *gates, int kw,
                       int stride) {
    vec sum[BUNCH] = {0}, v[(BUNCH - 1) * 2 + 3];
    i64 c = p->c, line = p->dh * p->w * c;
    for (i64 r = rows.first; r <= rows.last; r++)
        for (i64 i = 0; i < c; i += LANES) {
            const float *x = window + r * line + i, *g = p->gate + r * kw * c + i;
            for (int m = 0; m < (BUNCH - 1) * stride + kw; m++)
                v[m] = m >= first && m <= last ? hold(load(x + m * c)) : (vec){0};
            for (int s = 0; s < kw; s++) {
                vec weight = hold(load(g + s * c));
                for (int m = 0; m < BUNCH; m++) sum[m] += v[m * stride + s] * weight;
            }
        }
    quad sums = sum_lanes(sum);
    memcpy(gates, &sums, sizeof sums);
}

INLINE void gate_bunches(const Conv *p, const float *line, Range rows, float *gates, int kw, int stride) {
    const i64 all = (BUNCH - 1) * stride + kw - 1;
    for (i64 column = 0; column < p->wo; column += BUNCH) {
        if (column > p->wo - BUNCH) column = p->wo - BUNCH; /* the last bunch repeats some pixels */
        i64 left = column * stride - p->gpw, first = left < 0 ? -left : 0, last = p->w - 1 - left;
        const float *window = line + left * p->c;
        if (!first && last >= all) gate_bunch(p, window, rows, 0, all, gates + column, kw, stride);
        else gate_bunch(p, window, rows, first, last, gates + column, kw, stride);
    }
}

/* The sum of one gate over the taps inside the image. */
static float gate_alone(const Conv *p, const float *window, Range rows, Range columns) {
    vec sum[4] = {0};
    float rest = 0;
    int whole = p->dw == 1; /* a row of taps is one run */
    i64 length = whole ? (columns.last - columns.first + 1) * p->c : p->c;
    for (i64 r = rows.first; r <= rows.last; r++)
        for (i64 s = columns.first; s <= columns.last; s += whole ? p->gkw : 1) {
            const float *x = window + (r * p->dh * p->w + s * p->dw) * p->c, *g = p->gate + (r * p->gkw + s) * p->c;
            i64 i = 0;
            for (; i + 4 * LANES <= length; i += 4 * LANES)
                for (int q = 0; q < 4; q++) sum[q] += load(x + i + q * LANES) * load(g + i + q * LANES);
            for (; i + LANES <= length; i += LANES) sum[0] += load(x + i) * load(g + i);
            for (; i < length; i++) rest += x[i] * g[i];
        }
    quad sums = sum_lanes(sum);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest;
}

static void gate_row(const Conv *p, i64 image, i64 row, float *gates) {
    i64 top = row * p->sh - p->gph, kw = p->gkw, stride = p->sw;
    Range rows = inside(top, p->dh, p->gkh, p->h);
    const float *line = p->x + (image * p->h + top) * p->w * p->c;
    int bunches = p->c % LANES == 0 && p->wo >= BUNCH && (kw == 1 || p->dw == 1);
    if (bunches && kw == 1 && stride == 1) gate_bunches(p, line, rows, gates, 1, 1);
    else if (bunches && kw == 1 && stride == 2) gate_bunches(p, line, rows, gates, 1, 2);
    else if (bunches && kw == 3 && stride == 1) gate_bunches(p, line, rows, gates, 3, 1);
    else if (bunches && kw == 3 && stride == 2) gate_bunches(p, line, rows, gates, 3, 2);
    else
        for (i64 column = 0; column < p->wo; column++) {
            i64 left = column * stride - p->gpw;
            gates[column] = gate_alone(p, line + left * p->c, rows, inside(left, p->dw, kw, p->w));
        }
}

/* ---- convolution ---- */

#define VECTORS (MAX_PANELS * PANEL / LANES)

typedef struct { /* One or two panels of output channels, and what follows their sums. */
    const float *weight;
    i64 step, input, channel, channels; /* to the next panel; first input and output channel; how many of these exist */
    vec bias[VECTORS], scale[VECTORS], shift[VECTORS];
} Panels;

/* sums += window . weights for the inputs `first` to `last` of each window. */
INLINE void run(vec sums[MR][VECTORS], const float *const x[MR], i64 first, i64 last, const float *w, i64 step,
                int vectors) {
    for (i64 i = first; i < last; i++, w += PANEL) {
        vec b[VECTORS];
        for (int v = 0; v < vectors; v++) b[v] = hold(load(w + v * LANES / PANEL * step + v * LANES % PANEL));
        for (int m = 0; m < MR; m++)
            for (int v = 0; v < vectors; v++) sums[m][v] += x[m][i] * b[v];
    }
}

/* First and last tap inside the image for some of MR pixels; a tap in between may be outside for others. */
static void reach(const Conv *p, const Open *open, Range *rows, Range *columns) {
    *rows = (Range){p->kh, -1}, *columns = (Range){p->kw, -1};
    for (int m = 0; m < MR; m++) {
        Range r = inside(open[m].pixel / p->wo % p->ho * p->sh - p->ph, p->dh, p->kh, p->h);
        Range c = inside(open[m].pixel % p->wo * p->sw - p->pw, p->dw, p->kw, p->w);
        if (r.first < rows->first) rows->first = r.first;
        if (r.last > rows->last) rows->last = r.last;
        if (c.first < columns->first) columns->first = c.first;
        if (c.last > columns->last) columns->last = c.last;
    }
}

static int outside(const Conv *p, i64 pixel, i64 r, i64 s) {
    i64 y = pixel / p->wo % p->ho * p->sh - p->ph + r * p->dh, x = pixel % p->wo * p->sw - p->pw + s * p->dw;
    return y < 0 || y >= p->h || x < 0 || x >= p->w;
}

INLINE vec relu(vec v) { return (vec)((ivec)v & ~(ivec)(v < 0)); } /* NaN stays NaN, as in torch */

/* out = v + residual, or its ReLU, for LANES channels of which `count` exist. */
INLINE void emit(float *out, const float *residual, vec v, i64 count, i64 with_relu) {
    if (count >= LANES) {
        if (residual) v += load(residual);
        store(out, with_relu ? relu(v) : v);
    } else
        for (i64 i = 0; i < count; i++) {
            float f = residual ? v[i] + residual[i] : v[i];
            out[i] = with_relu && f < 0 ? 0 : f;
        }
}

/* What follows the sums of MR pixels, of which `count` are wanted, in vector v of their channels. */
INLINE void finish(const Conv *p, const Panels *q, const Open *open, i64 count, vec sums[MR][VECTORS], int v) {
    vec bias = q->bias[v], scale = q->scale[v], shift = q->shift[v];
    i64 left = q->channels - v * LANES, t = p->t, with_relu = p->relu;
    float *out = p->out + q->channel + v * LANES;
    const float *residual = p->residual ? p->residual + q->channel + v * LANES : NULL;
    for (int m = 0; m < MR; m++) sums[m][v] += bias;
    if (p->inner_relu)
        for (int m = 0; m < MR; m++) sums[m][v] = relu(sums[m][v]);
    for (int m = 0; m < MR; m++) sums[m][v] = sums[m][v] * (open[m].gate * scale) + shift;
    for (int m = 0; m < MR && m < count; m++) {
        i64 at = (i64)open[m].pixel * t;
        emit(out + at, residual ? residual + at : NULL, sums[m][v], left, with_relu);
    }
}

/* The first `count` pixels of a class; the list has room for whole tiles. `zeros`, if given, stands for taps outside. */
INLINE void tiles(const Conv *p, const Panels *q, const Class *class, i64 count, const float *zeros, int vectors) {
    i64 c = p->c / p->groups, line = p->dh * p->w * p->c, tap = p->dw * p->c, step = q->step, kw = p->kw;
    int whole = p->dw == 1 && p->groups == 1 && !zeros; /* a row of taps is one run */
    Range rows = class->rows, columns = class->columns;
    i64 length = whole ? (columns.last - columns.first + 1) * c : c, next = whole ? kw : 1;
    for (const Open *open = class->open, *end = open + count; open < end; open += MR) {
        vec sums[MR][VECTORS] = {0};
        const float *x[MR];
        for (int m = 0; m < MR; m++) x[m] = open[m].x;
        for (int m = 0; m < MR; m++) /* so that what follows the sums does not wait for memory */
            for (int v = 0; v < vectors; v++) {
                i64 at = (i64)open[m].pixel * p->t + q->channel + v * LANES;
                if (p->residual) __builtin_prefetch(p->residual + at);
                __builtin_prefetch(p->out + at, 1);
            }
        if (zeros) reach(p, open, &rows, &columns);
        for (i64 r = rows.first; r <= rows.last; r++)
            for (i64 s = columns.first; s <= columns.last; s += next) {
                i64 first = r * line + s * tap + q->input;
                if (zeros)
                    for (int m = 0; m < MR; m++) x[m] = outside(p, open[m].pixel, r, s) ? zeros - first : open[m].x;
                run(sums, x, first, first + length, q->weight + (r * kw + s) * c * PANEL, step, vectors);
            }
#pragma GCC unroll 4 /* in a loop the sums would leave the registers */
        for (int v = 0; v < vectors; v++)
            if (v * LANES < q->channels) finish(p, q, open, end - open, sums, v);
    }
}

static Panels panels_of(const Conv *p, i64 group, i64 panel) {
    i64 c = p->c / p->groups, t = p->t / p->groups, num = (t + PANEL - 1) / PANEL, step = p->kh * p->kw * c * PANEL;
    Panels q = {.weight = p->weight + (group * num + panel) * step, .step = step, .input = group * c};
    q.channel = group * t + panel * PANEL, q.channels = t - panel * PANEL;
    for (int v = 0; v < VECTORS && v * LANES < q.channels; v++) {
        i64 at = q.channel + v * LANES, left = q.channels - v * LANES;
        q.scale[v] += 1;
        if (p->bias) q.bias[v] = load_some(p->bias + at, left);
        if (p->scale) q.scale[v] = load_some(p->scale + at, left);
        if (p->shift) q.shift[v] = load_some(p->shift + at, left);
    }
    return q;
}

/* Every output channel of the pixels in `first` to `last`: full tiles, with `rest` also what is left. */
static void multiply(const Conv *p, const Worker *k, const Class *first, const Class *last, int rest) {
    for (i64 group = 0; group < p->groups; group++)
        for (i64 panel = 0; panel * PANEL < p->t / p->groups; panel += MAX_PANELS) {
            Panels q = panels_of(p, group, panel);
            int two = MAX_PANELS == 2 && q.channels > PANEL;
            for (const Class *class = first; class <= last; class++) {
                i64 count = rest ? class->count : class->count / MR * MR;
                if (class < k->other && two) tiles(p, &q, class, count, NULL, VECTORS);
                else if (class < k->other) tiles(p, &q, class, count, NULL, PANEL / LANES);
                else if (two) tiles(p, &q, class, count, k->zeros, VECTORS);
                else tiles(p, &q, class, count, k->zeros, PANEL / LANES);
            }
        }
}

static void full_tiles(const Conv *p, Worker *k) {
    multiply(p, k, k->classes, k->other, 0);
    k->waiting = 0;
    for (Class *class = k->classes; class <= k->other; class++) {
        i64 done = class->count / MR * MR;
        class->count -= done;
        memmove(class->open, class->open + done, class->count * sizeof(Open));
        k->waiting += class->count;
    }
}

static void last_tiles(const Conv *p, Worker *k) {
    Class *other = k->other;
    full_tiles(p, k);
    for (Class *class = k->classes; class < other; class++) {
        memcpy(other->open + other->count, class->open, class->count * sizeof(Open));
        other->count += class->count;
    }
    for (i64 i = 0; i < MR && other->count; i++) other->open[other->count + i] = other->open[0]; /* fill the tile */
    multiply(p, k, other, other, 1);
}

/* ---- rows ---- */

/* What closed pixels hold, in the whole row; open ones are written over. */
static void close_row(const Conv *p, i64 row) {
    i64 size = p->wo * p->t;
    const float *shift = p->shift, *residual = p->residual ? p->residual + row * size : NULL;
    float *out = p->out + row * size;
    i64 channels = p->t, with_relu = p->relu, few = 8 * channels; /* eight pixels at a time stay in cache */
    for (i64 start = 0; start < size; start += few)
        for (i64 t = 0; t < channels; t += LANES) {
            i64 end = start + few < size ? start + few : size;
            vec constant = {0};
            if (shift) constant = load_some(shift + t, channels - t);
            if (!residual && channels - t >= LANES) {
                if (with_relu) constant = relu(constant);
                for (i64 i = start + t; i < end; i += channels) store(out + i, constant);
            } else
                for (i64 i = start + t; i < end; i += channels)
                    emit(out + i, residual ? residual + i : NULL, constant, channels - t, with_relu);
        }
}

static void row_of_pixels(const Conv *p, Worker *k, i64 row) {
    i64 image = row / p->ho, y = row % p->ho, span = 0, column = 0;
    i64 wo = p->wo, step = p->sw * p->c;
    const float *window = p->x + ((image * p->h + y * p->sh - p->ph) * p->w - p->pw) * p->c, *gates = k->gates;
    float bias = p->gate_bias, ceiling = p->gate_ceiling;
    uint32_t at = row * wo;
    i64 before = k->waiting, line = p->w * p->c;
    if (p->c >= 64) /* fetch the input that only the next rows read; the processor fetches shorter rows by itself */
        for (i64 i = 0; i < p->sh * line; i += 16)
            __builtin_prefetch(window + ((p->kh - 1) * p->dh + p->sh) * line + i, 0, 2);
    gate_row(p, image, y, k->gates);
    while (span < k->num_rows && y >= k->rows[span].end) span++;
    for (i64 i = 0; column < wo; i++) {
        int known = i < k->num_columns && span < k->num_rows;
        Class *class = &k->classes[known ? span * k->num_columns + i : k->other - k->classes];
        i64 end = known ? k->columns[i].end : wo, count = class->count;
        Open *open = class->open;
        for (; column < end; column++, window += step, at++) { /* no branch, which the processor could not predict */
            float gate = gates[column] + bias;
            open[count] = (Open){window, at, gate > ceiling ? ceiling : gate};
            count += !(gate <= 0); /* NaN is open, so that it shows */
        }
        k->waiting += count - class->count;
        class->count = count;
    }
    if (k->waiting - before < wo) close_row(p, row);
    if (k->waiting >= k->block) full_tiles(p, k);
}

static i64 spans(Span *found, i64 num, i64 step, i64 padding, i64 dilation, i64 taps, i64 size) {
    i64 count = 0;
    for (i64 i = 0; i < num; i++) {
        Range range = inside(i * step - padding, dilation, taps, size);
        if (!count || range.first != found[count - 1].taps.first || range.last != found[count - 1].taps.last) {
            if (count == MAX_SPANS) break;
            found[count++].taps = range;
        }
        found[count - 1].end = i + 1;
    }
    return count;
}

/* Pixels in a block: enough to pay for reading the weights once, few enough to leave the images in cache. */
static i64 block_size(const Conv *p) {
    i64 weights = p->kh * p->kw * p->c / p->groups * p->t * sizeof(float);
    return weights <= 512 * 1024 ? 192 : 384;
}

static void start(Worker *k, const Conv *p, char *memory, const float *zeros, i64 list) {
    *k = (Worker){.block = block_size(p), .zeros = zeros, .gates = (float *)memory};
    k->num_rows = spans(k->rows, p->ho, p->sh, p->ph, p->dh, p->kh, p->h);
    k->num_columns = spans(k->columns, p->wo, p->sw, p->pw, p->dw, p->kw, p->w);
    Open *open = (Open *)(memory + (p->wo * sizeof(float) + 63) / 64 * 64);
    k->other = k->classes + k->num_rows * k->num_columns;
    for (i64 i = 0; k->classes + i <= k->other; i++, open += list) {
        Range rows = {0, p->kh - 1}, columns = {0, p->kw - 1};
        if (k->classes + i < k->other) rows = k->rows[i / k->num_columns].taps, columns = k->columns[i % k->num_columns].taps;
        k->classes[i] = (Class){rows, columns, open, 0};
    }
}

/* Returns 0, or 1 where there is not enough memory. */
int gated_conv(const Conv *p) {
    i64 rows = p->n * p->ho, threads = p->threads < rows ? p->threads : rows, error = 0;
    i64 list = block_size(p) + p->wo + MAX_SPANS * MAX_SPANS * MR + MR; /* `other` also takes every class's rest */
    i64 each = (p->wo * sizeof(float) + 63) / 64 * 64 + (MAX_SPANS * MAX_SPANS + 1) * list * sizeof(Open);
    char *memory = malloc(threads * each);
    float *zeros = calloc(p->c, sizeof(float));
    i64 chunk = threads > 1 ? rows / (threads * 8) + 1 : rows;
    if (memory && zeros) {
#pragma omp parallel num_threads(threads) if (threads > 1)
        {
            int thread = 0;
#ifdef _OPENMP
            thread = omp_get_thread_num();
#endif
            Worker k;
            start(&k, p, memory + thread * each, zeros, list);
#pragma omp for schedule(dynamic, chunk) nowait
            for (i64 row = 0; row < rows; row++) row_of_pixels(p, &k, row);
            last_tiles(p, &k);
        }
    } else error = 1;
    free(memory);
    free(zeros);
    return error;
}
