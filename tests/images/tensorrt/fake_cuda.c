/* A driver library (libcuda.so.1) without a GPU, for tests: "device" memory is host memory, streams run at once, and a
 * capturing stream records copies and kernels, which cuGraphLaunch replays. Of the driver's functions it has those
 * that trt_cuda_graph.py and trt_slot.py need, directly or through pycuda. All signatures are the driver's own.
 *
 * fake_kernel stands for an inference: output[row][c] = sum of the input row + c; it uses its context's memory too.
 * Memory that was freed is kept apart, so that a copy or kernel that is replayed on it fails as on a GPU.
 * fake_memory_limit(bytes) makes allocations beyond it fail; fake_fail(name) makes the next call of a function fail. */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900 };

typedef struct { void *to; const void *from; size_t bytes; int rows, in, out; const void *scratch; } Step;
typedef struct Freed { const char *begin, *end; struct Freed *next; } Freed;
typedef struct { Step steps[64]; int count; } Graph;
typedef struct { Graph *capturing; } Stream;

static size_t used, peak, limit = (size_t)1 << 40;
static int launches, graphs;
static char failing[64];
static Freed *freed;

static int fails(const char *name) {
    if (strcmp(failing, name)) return 0;
    failing[0] = 0;
    return 1;
}

/* whether it lies in memory that was given back */
static int is_freed(const void *p) {
    for (const Freed *f = freed; f; f = f->next)
        if ((const char *)p >= f->begin && (const char *)p < f->end) return 1;
    return 0;
}

static void bury(void *p, size_t n) {
    Freed *f = malloc(sizeof *f);
    *f = (Freed){p, (char *)p + n, freed};
    freed = f;
}

static int now(const Step *s) {
    if (is_freed(s->to) || is_freed(s->from) || is_freed(s->scratch)) return ILLEGAL_ADDRESS;
    if (!s->rows) { memmove(s->to, s->from, s->bytes); return OK; }
    for (int r = 0; r < s->rows; r++) {
        double sum = 0;
        for (int i = 0; i < s->in; i++) sum += ((const float *)s->from)[(size_t)r * s->in + i];
        for (int c = 0; c < s->out; c++) ((float *)s->to)[(size_t)r * s->out + c] = (float)(sum + c);
    }
    return OK;
}

static int put(Stream *stream, Step step) {
    Graph *g = stream ? stream->capturing : NULL;
    if (!g) return now(&step);
    if (g->count == 64) return INVALID;
    g->steps[g->count++] = step;
    return OK;
}

/* for the tests */
void fake_memory_limit(size_t bytes) { limit = bytes; }
void fake_fail(const char *name) { strncpy(failing, name, sizeof failing - 1); }
size_t fake_used(void) { return used; }
size_t fake_peak(void) { return peak; }
int fake_launches(void) { return launches; }
int fake_graphs(void) { return graphs; }
int fake_kernel(Stream *stream, const void *in, void *out, int rows, int row_in, int row_out, const void *scratch) {
    return put(stream, (Step){out, in, 0, rows, row_in, row_out, scratch});
}

/* device, context */
int cuInit(unsigned flags) { return fails("cuInit") ? 100 : OK; }
int cuDriverGetVersion(int *v) { *v = 13000; return OK; }
int cuDeviceGetCount(int *n) { *n = 1; return OK; }
int cuDeviceGet(int *d, int i) { *d = i; return i ? 101 : OK; }
int cuDeviceGetName(char *name, int n, int d) { strncpy(name, "Fake GPU", n); return OK; }
int cuDeviceComputeCapability(int *major, int *minor, int d) { *major = 9; *minor = 0; return OK; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = (size_t)8 << 30; return OK; }
static int context;
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = &context; return OK; }
int cuDevicePrimaryCtxRelease_v2(int d) { return OK; }
int cuCtxPushCurrent_v2(void *c) { return OK; }
int cuCtxPopCurrent_v2(void **c) { if (c) *c = &context; return OK; }
int cuCtxGetDevice(int *d) { *d = 0; return OK; }
int cuCtxSynchronize(void) { return OK; }
int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == 100 ? "no CUDA-capable device is detected" : "it failed";
    return OK;
}

/* memory: the size stands before the block */
static int take(void **p, size_t n) {
    if (used + n > limit) return OUT_OF_MEMORY;
    size_t *block = malloc(n + 64);
    if (!block) return OUT_OF_MEMORY;
    *block = n;
    used += n;
    if (used > peak) peak = used;
    *p = (char *)block + 64;
    return OK;
}
static int give(void *p) {
    size_t *block = (size_t *)((char *)p - 64);
    used -= *block;
    bury(p, *block);
    return OK;
}
int cuMemAlloc_v2(void **p, size_t n) { return take(p, n); }
int cuMemFree_v2(void *p) { return give(p); }
int cuMemHostAlloc(void **p, size_t n, unsigned f) {
    size_t *block = malloc(n + 64);
    if (!block) return OUT_OF_MEMORY;
    *block = n;
    *p = (char *)block + 64;
    return OK;
}
int cuMemFreeHost(void *p) { bury(p, *(size_t *)((char *)p - 64)); return OK; }
int cuMemGetInfo_v2(size_t *unused, size_t *total) { *total = (size_t)8 << 30; *unused = *total - used; return OK; }
int cuMemcpyHtoDAsync_v2(void *d, const void *h, size_t n, Stream *s) { return put(s, (Step){d, h, n}); }
int cuMemcpyDtoHAsync_v2(void *h, const void *d, size_t n, Stream *s) { return put(s, (Step){h, d, n}); }
int cuMemsetD8Async(void *d, unsigned char c, size_t n, Stream *s) { memset(d, c, n); return OK; }

/* streams, events */
int cuStreamCreate(Stream **s, unsigned flags) { *s = calloc(1, sizeof **s); return flags == 1 ? OK : INVALID; }
int cuStreamDestroy_v2(Stream *s) { free(s); return OK; }
int cuStreamSynchronize(Stream *s) { return s->capturing ? CAPTURE_UNSUPPORTED : OK; }
int cuEventCreate(void **e, unsigned flags) { *e = malloc(1); return OK; }
int cuEventDestroy_v2(void *e) { free(e); return OK; }
int cuEventRecord(void *e, Stream *s) { return OK; }
int cuEventSynchronize(void *e) { return OK; }
int cuEventElapsedTime_v2(float *ms, void *a, void *b) { *ms = 1.25f; return OK; }

/* graphs */
int cuStreamBeginCapture_v2(Stream *s, int mode) {
    if (s->capturing || mode != 1 || fails("cuStreamBeginCapture_v2")) return CAPTURE_UNSUPPORTED;
    s->capturing = calloc(1, sizeof(Graph));
    graphs++;
    return OK;
}
int cuStreamEndCapture(Stream *s, Graph **g) {
    if (!s->capturing) return INVALID;
    *g = s->capturing;
    s->capturing = NULL;
    return OK;
}
int cuGraphInstantiateWithFlags(Graph **e, Graph *g, unsigned long long flags) {
    if (fails("cuGraphInstantiateWithFlags")) return OUT_OF_MEMORY;
    *e = malloc(sizeof **e);
    **e = *g;
    graphs++;
    return OK;
}
int cuGraphLaunch(Graph *e, Stream *s) {
    if (fails("cuGraphLaunch")) return 719;
    launches++;
    int result = OK;
    for (int i = 0; i < e->count && !result; i++) result = now(&e->steps[i]);
    return result;
}
int cuGraphDestroy(Graph *g) { free(g); graphs--; return OK; }
int cuGraphExecDestroy(Graph *e) { free(e); graphs--; return OK; }
