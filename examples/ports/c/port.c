/* A port of single stages in C: a sampler, an inverse STFT and WAV files.
 *
 * `port BUG` plants one bug: crossing-id-dropped, no-penalty, symmetric-window, no-trim,
 * scaled-by-32768. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *bug = "";
static int has(const char *name) { return strcmp(bug, name) == 0; }

/* ---- JSON: values are found by their keys, which are unique in every request ---- */

static const char *find(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = json ? strstr(json, quoted) : NULL;
    if (!at) return NULL;
    at += strlen(quoted);
    while (*at == ' ') at++;
    return at;
}

static double number(const char *json, const char *key, double otherwise)
{
    const char *at = find(json, key);
    return at && *at != 'n' ? strtod(at, NULL) : otherwise; /* null */
}

/* A list of whole numbers, up to what is none; returns how many. */
static size_t integers(const char *at, long **values)
{
    size_t count = 0, room = 64;
    *values = malloc(room * sizeof **values);
    for (at += 1; at[-1] != ']' && *at != ']'; count++) {
        char *end;
        if (count == room) *values = realloc(*values, (room *= 2) * sizeof **values);
        (*values)[count] = strtol(at, &end, 10);
        if (end == at) break;
        for (at = end; *at == ',' || *at == ' '; at++) {}
    }
    return count;
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The float32 elements of a base64 array (little endian, as this machine's); returns how many. */
static size_t floats(const char *array, float **values)
{
    const char *text = array && *array == '{' ? find(array, "base64") + 1 : "";
    size_t length = strcspn(text, "\""), bytes = 0;
    uint8_t *raw = malloc(length / 4 * 3 + 4);
    for (size_t i = 0; i + 3 < length; i += 4) {
        uint32_t word = 0;
        for (int k = 0; k < 4; k++) {
            const char *digit = strchr(digits, text[i + k]);
            word = word << 6 | (digit ? (uint32_t)(digit - digits) : 0);
        }
        for (int k = 0; k < 3; k++) raw[bytes++] = (uint8_t)(word >> (16 - 8 * k));
    }
    while (length && text[--length] == '=') bytes--;
    *values = (float *)(void *)raw;
    return bytes / sizeof(float);
}

static void print_base64(const void *data, size_t size)
{
    const uint8_t *raw = data;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t word = (uint32_t)raw[i] << 16;
        if (i + 1 < size) word |= (uint32_t)raw[i + 1] << 8;
        if (i + 2 < size) word |= raw[i + 2];
        for (int k = 0; k < 4; k++)
            putchar(i + k > size ? '=' : digits[word >> (18 - 6 * k) & 63]);
    }
}

/* ---- sampler ---- */

static const double *sorted_scores;
static int by_score(const void *a, const void *b)
{
    int i = *(const int *)a, j = *(const int *)b;
    double x = sorted_scores[i], y = sorted_scores[j];
    return x != y ? (x < y) - (x > y) : i - j; /* of equal scores, the lowest id first */
}
static int by_id(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static int sample(const float *logits, int size, const long *history, size_t seen,
                  double temperature, double top_p, int top_k, double penalty, double uniform)
{
    int likely = 0; /* whether there is a logit that is finite, and none that is NaN or infinity */
    for (int i = 0; i < size && likely >= 0; i++)
        likely = isnan(logits[i]) || logits[i] == INFINITY ? -1 : likely || isfinite(logits[i]);
    if (likely < 1) return -1;
    double *scores = malloc(size * sizeof *scores), total = 0, mass = 0;
    int *ranked = malloc(size * sizeof *ranked), kept = size;
    char *done = calloc(size, 1);
    for (int i = 0; i < size; i++) scores[i] = logits[i], ranked[i] = i;
    for (size_t i = 0; i < seen && !has("no-penalty"); i++) {
        long id = history[i];
        if (id < 0 || id >= size) return -1;
        if (!done[id]++) scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
    }
    sorted_scores = scores;
    qsort(ranked, size, sizeof *ranked, by_score);
    int best = ranked[0];
    if (temperature > 0) {
        double top = scores[best];
        if (top_k > 0 && top_k < size) kept = top_k;
        for (int i = 0; i < size; i++) scores[i] = exp((scores[i] - top) / temperature);
        for (int i = 0; i < kept; i++) total += scores[ranked[i]];
        if (top_p < 1) {
            int last = 0;
            for (mass = scores[best]; mass < top_p * total && last + 1 < kept;)
                mass += scores[ranked[++last]];
            kept = has("crossing-id-dropped") && last ? last : last + 1;
        }
        qsort(ranked, kept, sizeof *ranked, by_id);
        for (total = 0, mass = 0, best = -1; kept && scores[ranked[kept - 1]] == 0; kept--) {}
        for (int i = 0; i < kept; i++) total += scores[ranked[i]];
        for (int i = 0; i < kept && best < 0; i++)
            if ((mass += scores[ranked[i]]) > uniform * total) best = ranked[i];
        if (best < 0) best = ranked[kept - 1];
    }
    free(scores), free(ranked), free(done);
    return best;
}

/* ---- inverse STFT ---- */

static const double pi = 3.14159265358979323846;

/* The inverse transform of n complex values, n with any factors, without 1/n. */
static void transform(const double *re, const double *im, int n, int step, double *to, double *ti)
{
    if (n % 2) {
        for (int k = 0; k < n; k++) {
            to[k] = ti[k] = 0;
            for (int i = 0; i < n; i++) {
                double angle = 2 * pi * ((long)i * k % n) / n, c = cos(angle), s = sin(angle);
                to[k] += re[i * step] * c - im[i * step] * s;
                ti[k] += re[i * step] * s + im[i * step] * c;
            }
        }
        return;
    }
    int half = n / 2;
    double *er = malloc(4 * half * sizeof *er), *ei = er + half, *or_ = ei + half, *oi = or_ + half;
    transform(re, im, half, 2 * step, er, ei);
    transform(re + step, im + step, half, 2 * step, or_, oi);
    for (int k = 0; k < half; k++) {
        double c = cos(2 * pi * k / n), s = sin(2 * pi * k / n);
        double a = or_[k] * c - oi[k] * s, b = or_[k] * s + oi[k] * c;
        to[k] = er[k] + a, ti[k] = ei[k] + b;
        to[k + half] = er[k] - a, ti[k + half] = ei[k] - b;
    }
    free(er);
}

/* Samples ((T - 1) * hop,) of a spectrum (F, T, 2), centred and one-sided. */
static float *istft(const float *spectrum, int frames, int n, int hop, int width, size_t *count)
{
    int bins = n / 2 + 1, left = (n - width) / 2, trim = has("no-trim") ? 0 : n / 2;
    size_t length = (size_t)(frames - 1) * hop + n;
    double *sum = calloc(2 * length, sizeof *sum), *envelope = sum + length;
    double *work = calloc(5 * n, sizeof *work);
    double *window = work, *re = work + n, *im = re + n, *to = im + n, *ti = to + n;
    for (int i = 0; i < width; i++) {
        double period = has("symmetric-window") ? width - 1 : width;
        window[left + i] = 0.5 - 0.5 * cos(2 * pi * i / period);
    }
    for (int t = 0; t < frames; t++) {
        for (int k = 0; k < bins; k++) {
            const float *bin = spectrum + 2 * ((size_t)k * frames + t);
            int edge = k == 0 || k == n / 2;
            re[k] = bin[0], im[k] = edge ? 0 : bin[1];
            if (!edge) re[n - k] = re[k], im[n - k] = -im[k];
        }
        transform(re, im, n, 1, to, ti);
        for (int i = 0; i < n; i++) {
            sum[(size_t)t * hop + i] += to[i] / n * window[i];
            envelope[(size_t)t * hop + i] += window[i] * window[i];
        }
    }
    *count = (size_t)(frames - 1) * hop;
    float *samples = malloc(*count * sizeof *samples + 1);
    for (size_t i = 0; i < *count; i++)
        samples[i] = (float)(envelope[i + trim] > 1e-10 ? sum[i + trim] / envelope[i + trim] : 0);
    free(sum), free(work);
    return samples;
}

/* ---- WAV ---- */

static void put(uint8_t *at, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static uint8_t *wav(const float *samples, size_t count, uint32_t rate)
{
    uint8_t *file = malloc(44 + 2 * count);
    memcpy(file, "RIFF____WAVEfmt ________________________data", 44);
    put(file + 4, (uint32_t)(36 + 2 * count), 4);
    put(file + 16, 16, 4), put(file + 20, 1, 2), put(file + 22, 1, 2); /* PCM, mono */
    put(file + 24, rate, 4), put(file + 28, 2 * rate, 4), put(file + 32, 2, 2);
    put(file + 34, 16, 2), memcpy(file + 36, "data", 4), put(file + 40, (uint32_t)(2 * count), 4);
    for (size_t i = 0; i < count; i++) {
        double value = rint((has("scaled-by-32768") ? 32768.0 : 32767.0) * samples[i]);
        value = value > 32767 ? 32767 : value < -32768 ? -32768 : value;
        put(file + 44 + 2 * i, (uint32_t)(int32_t)value, 2);
    }
    return file;
}

/* ---- requests ---- */

static void answer(const char *line, long id)
{
    const char *method = find(line, "method");
    printf("{\"id\": %ld, ", id);
    if (!strncmp(method, "\"hello\"", 7)) {
        printf("\"result\": {\"protocol\": 1, \"name\": \"c\", \"version\": \"1.0\", "
               "\"methods\": [\"sample\", \"istft\", \"wav\"]}");
    } else if (!strncmp(method, "\"sample\"", 8)) {
        float *logits;
        long *history;
        int size = (int)floats(find(line, "logits"), &logits);
        size_t seen = integers(find(line, "history"), &history);
        int chosen = sample(logits, size, history, seen, number(line, "temperature", 0),
                            number(line, "top_p", 1), (int)number(line, "top_k", 0),
                            number(line, "repetition_penalty", 1), number(line, "uniform", 0));
        if (chosen < 0)
            printf("\"error\": {\"message\": \"logits without a finite value, or history with an id "
                   "outside the vocabulary\"}");
        else
            printf("\"result\": %d", chosen);
        free(logits), free(history);
    } else if (!strncmp(method, "\"istft\"", 7)) {
        float *spectrum;
        long *shape;
        const char *array = find(line, "spectrum");
        size_t axes = array && *array == '{' ? integers(find(array, "shape"), &shape) : 0;
        floats(array, &spectrum);
        int n = (int)number(line, "n_fft", 0), hop = (int)number(line, "hop_length", 0);
        int width = (int)number(line, "win_length", n);
        if (axes != 4 || n < 1 || hop < 1 || width < 1 || shape[1] != n / 2 + 1) {
            printf("\"error\": {\"message\": \"the spectrum must have 4 axes and %d bins\"}}\n",
                   n / 2 + 1);
            fflush(stdout), free(spectrum);
            return;
        }
        int frames = (int)shape[2];
        size_t row = 2 * (size_t)shape[1] * shape[2], count = 0;
        size_t each = frames ? (size_t)(frames - 1) * hop : 0;
        float *all = malloc(shape[0] * each * sizeof *all + 1);
        for (long b = 0; frames && b < shape[0]; b++) {
            float *samples = istft(spectrum + b * row, frames, n, hop, width, &count);
            memcpy(all + b * each, samples, each * sizeof *all);
            free(samples);
        }
        printf("\"result\": {\"samples\": {\"dtype\": \"float32\", \"shape\": [%ld, %zu], "
               "\"base64\": \"", shape[0], each);
        print_base64(all, shape[0] * each * sizeof *all);
        printf("\"}}");
        free(spectrum), free(shape), free(all);
    } else if (!strncmp(method, "\"wav\"", 5)) {
        float *samples;
        size_t count = floats(find(line, "samples"), &samples);
        uint8_t *file = wav(samples, count, (uint32_t)number(line, "sample_rate", 0));
        printf("\"result\": {\"bytes\": {\"dtype\": \"uint8\", \"shape\": [%zu], \"base64\": \"",
               44 + 2 * count);
        print_base64(file, 44 + 2 * count);
        printf("\"}}");
        free(samples), free(file);
    } else {
        printf("\"error\": {\"message\": \"unknown method\"}");
    }
    printf("}\n");
    fflush(stdout);
}

int main(int count, char **arguments)
{
    char *line = NULL;
    size_t room = 0;
    if (count > 1) bug = arguments[1];
    while (getline(&line, &room, stdin) > 0) {
        const char *id = find(line, "id"); /* a notification has none */
        if (id && strncmp(line, "{\"method\"", 9)) answer(line, strtol(id, NULL, 10));
    }
    return 0;
}
