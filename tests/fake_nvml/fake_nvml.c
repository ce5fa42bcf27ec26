/* A stand-in for libnvidia-ml.so.1 that drives the real nvidia-ml-py binding in tests.
 *
 * The power follows a script, readings and the energy counter change once every 100 ms as on real boards, functions can
 * be refused, GPUs can be lost and come back. All settings are environment variables, documented in build.py.
 * Structures have NVML's public memory layout as nvidia-ml-py declares it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15
};
enum { MAX_GPUS = 16, MAX_STEPS = 4096, MAX_PROCESSES = 16 };

typedef struct { int index; int is_mig; } Device;
typedef struct { unsigned version, sensor; int temperature; } TemperatureV1;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char address[32]; } Pci;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; int si; unsigned short us; } Value;
typedef struct { unsigned field, scope; long long timestamp_us, latency_us; unsigned type, result; Value value; } FieldValue;

static Device boards[MAX_GPUS], mig_slices[MAX_GPUS];
static int initialized;

static const char *setting(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}
static double number(const char *name, double fallback) {
    const char *value = getenv(name);
    return value && *value ? atof(value) : fallback;
}
static int gpu_count(void) {
    int count = (int)number("FAKE_NVML_GPUS", 1);
    return count > MAX_GPUS ? MAX_GPUS : count;
}
static double clock_s(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* True where `word` is an element of the comma-separated list in an environment variable. */
static int listed(const char *variable, const char *word) {
    const char *at = getenv(variable);
    size_t n = strlen(word);
    while (at && *at) {
        size_t length = strcspn(at, ",");
        if (length == n && !strncmp(at, word, n)) return 1;
        at += length + (at[length] == ',');
    }
    return 0;
}
/* One line "<key> <index> [number]" of the control file; the file is read at each call so that a test can act midway. */
static int control(const char *key, int index, double *value) {
    const char *path = getenv("FAKE_NVML_CONTROL");
    FILE *file = path ? fopen(path, "r") : NULL;
    char name[32], line[128];
    int found = 0, at;
    double given;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        int n = sscanf(line, "%31s %d %lf", name, &at, &given);
        if (n >= 2 && at == index && !strcmp(name, key)) {
            found = 1;
            if (n == 3 && value) *value = given;
        }
    }
    fclose(file);
    return found;
}
static int status(const char *function, Device *device) {
    if (!initialized) return UNINITIALIZED;
    if (device && (device->index < 0 || device->index >= gpu_count())) return INVALID_ARGUMENT;
    if (device && control("lost", device->index, NULL)) return GPU_IS_LOST;
    if (listed("FAKE_NVML_UNSUPPORTED", function)) return NOT_SUPPORTED;
    if (listed("FAKE_NVML_FORBIDDEN", function)) return NO_PERMISSION;
    return SUCCESS;
}
#define CHECK(device) do { int s_ = status(__func__, device); if (s_) return s_; } while (0)

/* The true curve: watts at t and joules from 0 to t, both exact. */
static double curve(int index, double t, double *joules) {
    char name[32];
    const char *script;
    double a = 0, b = 0, period = 1;
    snprintf(name, sizeof name, "FAKE_NVML_POWER_%d", index);
    script = setting(name, setting("FAKE_NVML_POWER", "constant:100"));
    if (sscanf(script, "square:%lf,%lf,%lf", &a, &b, &period) == 3) {
        double whole = floor(t / period), rest = t - whole * period, half = period / 2;
        *joules = whole * half * (a + b) + (rest < half ? rest * a : half * a + (rest - half) * b);
        return rest < half ? a : b;
    }
    if (sscanf(script, "sine:%lf,%lf,%lf", &a, &b, &period) == 3) {
        double w = 2 * M_PI / period;
        *joules = a * t + b * (1 - cos(w * t)) / w;
        return a + b * sin(w * t);
    }
    if (!strncmp(script, "file:", 5)) { /* lines "t_s watts": holds until the next line, the first also before it */
        FILE *file = fopen(script + 5, "r");
        double at, watts, last_at = 0, last = 0;
        int n = 0;
        *joules = 0;
        while (file && fscanf(file, "%lf %lf", &at, &watts) == 2) {
            if (n++ == 0) last = watts;
            if (at > t) break;
            if (at > last_at) { *joules += last * (at - last_at); last_at = at; }
            last = watts;
        }
        if (file) fclose(file);
        *joules += last * (t - last_at);
        return last;
    }
    sscanf(script, "constant:%lf", &a);
    *joules = a * t;
    return a;
}
/* What the driver shows: the curve at the last step. step_unix_us: that moment on the wall clock. */
static double shown_power_w(int index, double *joules, long long *step_unix_us) {
    double step = number("FAKE_NVML_STEP_MS", 100) / 1000, now = clock_s(CLOCK_MONOTONIC);
    double t = now - number("FAKE_NVML_EPOCH_NS", 0) * 1e-9, at = floor(t / step) * step, watts, own;
    watts = curve(index, at, joules ? joules : &own);
    control("power", index, &watts);
    if (step_unix_us) *step_unix_us = (long long)((clock_s(CLOCK_REALTIME) - (t - at)) * 1e6);
    return watts;
}
static void text(char *out, unsigned length, const char *value) { snprintf(out, length, "%s", value); }
static void uuid_of(Device *d, char *out, unsigned n) {
    snprintf(out, n, "%s00000000-0000-0000-0000-%012d", d->is_mig ? "MIG-" : "GPU-", d->index);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int refused = (int)number("FAKE_NVML_INIT_ERROR", 0);
    if (refused) return refused;
    for (int i = 0; i < MAX_GPUS; i++) {
        boards[i] = (Device){i, 0};
        mig_slices[i] = (Device){i, 1};
    }
    initialized++;
    return SUCCESS;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { if (!initialized) return UNINITIALIZED; initialized--; return SUCCESS; }
const char *nvmlErrorString(int result) { return result == GPU_IS_LOST ? "GPU is lost" : "error of the stand-in"; }

int nvmlSystemGetDriverVersion(char *out, unsigned n) { CHECK(NULL); text(out, n, setting("FAKE_NVML_DRIVER", "580.00.01")); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { CHECK(NULL); *out = (int)number("FAKE_NVML_CUDA", 13000); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *out) { return nvmlSystemGetCudaDriverVersion_v2(out); }
int nvmlDeviceGetCount_v2(unsigned *out) { CHECK(NULL); *out = (unsigned)gpu_count(); return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    CHECK(NULL);
    if ((int)index >= gpu_count()) return INVALID_ARGUMENT;
    if (control("lost", (int)index, NULL)) return GPU_IS_LOST;
    *out = &boards[index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **out) {
    CHECK(NULL);
    for (int i = 0; i < gpu_count(); i++)
        for (int mig = 0; mig < 2; mig++) {
            Device *d = mig ? &mig_slices[i] : &boards[i];
            char own[96];
            uuid_of(d, own, sizeof own);
            if (strcmp(own, uuid) || (mig && !number("FAKE_NVML_MIG", 0))) continue;
            if (control("lost", i, NULL)) return GPU_IS_LOST;
            *out = d;
            return SUCCESS;
        }
    return NOT_FOUND;
}
int nvmlDeviceIsMigDeviceHandle(Device *d, unsigned *out) { CHECK(d); *out = (unsigned)d->is_mig; return SUCCESS; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *d, Device **out) {
    CHECK(d);
    if (!d->is_mig) return INVALID_ARGUMENT;
    *out = &boards[d->index];
    return SUCCESS;
}
int nvmlDeviceGetMigMode(Device *d, unsigned *current, unsigned *pending) {
    CHECK(d);
    *current = *pending = (unsigned)number("FAKE_NVML_MIG", 0);
    return SUCCESS;
}
int nvmlDeviceGetIndex(Device *d, unsigned *out) { CHECK(d); *out = (unsigned)d->index; return SUCCESS; }
int nvmlDeviceGetName(Device *d, char *out, unsigned n) { CHECK(d); text(out, n, setting("FAKE_NVML_NAME", "Stand-in GPU")); return SUCCESS; }
int nvmlDeviceGetUUID(Device *d, char *out, unsigned n) { CHECK(d); uuid_of(d, out, n); return SUCCESS; }
int nvmlDeviceGetCudaComputeCapability(Device *d, int *major, int *minor) {
    CHECK(d);
    *major = 9; *minor = 0;
    sscanf(setting("FAKE_NVML_COMPUTE_CAPABILITY", "9.0"), "%d.%d", major, minor);
    return SUCCESS;
}

static int field_power(Device *d, FieldValue *f) {
    char name[32];
    snprintf(name, sizeof name, "field%u", f->field);
    if (listed("FAKE_NVML_UNSUPPORTED", name)) return NOT_SUPPORTED;
    if (f->field != 185 && f->field != 186) return NOT_SUPPORTED;
    if (f->scope == 0 && number("FAKE_NVML_REJECT_GPU_SCOPE", 0)) return INVALID_ARGUMENT;
    if (f->scope == 1 && !number("FAKE_NVML_REJECT_GPU_SCOPE", 0)) return NOT_SUPPORTED;
    f->type = 1; /* unsigned int */
    f->value.ui = (unsigned)lround(1000 * shown_power_w(d->index, NULL, &f->timestamp_us));
    return SUCCESS;
}
int nvmlDeviceGetFieldValues(Device *d, int count, FieldValue *fields) {
    CHECK(d);
    for (int i = 0; i < count; i++) fields[i].result = (unsigned)field_power(d, &fields[i]);
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Device *d, unsigned *out) { CHECK(d); *out = (unsigned)lround(1000 * shown_power_w(d->index, NULL, NULL)); return SUCCESS; }
int nvmlDeviceGetTotalEnergyConsumption(Device *d, unsigned long long *out) {
    double joules, mj, wrap = number("FAKE_NVML_COUNTER_WRAP_MJ", 0), cost_us = number("FAKE_NVML_ENERGY_COST_US", 0);
    CHECK(d);
    if (cost_us > 0) usleep((useconds_t)cost_us);
    shown_power_w(d->index, &joules, NULL);
    mj = floor(joules * 1000) + number("FAKE_NVML_COUNTER_START_MJ", 0);
    *out = (unsigned long long)(wrap > 0 ? fmod(mj, wrap) : mj);
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(Device *d, unsigned type, unsigned *out) { CHECK(d); *out = type == 2 ? 2619 : 1980; return SUCCESS; }
int nvmlDeviceGetMaxClockInfo(Device *d, unsigned type, unsigned *out) { CHECK(d); *out = type == 2 ? 2619 : 1980; return SUCCESS; }
int nvmlDeviceGetDefaultApplicationsClock(Device *d, unsigned type, unsigned *out) { CHECK(d); *out = type == 2 ? 2619 : 1755; return SUCCESS; }
int nvmlDeviceGetClock(Device *d, unsigned type, unsigned id, unsigned *out) {
    CHECK(d);
    *out = type == 2 ? 2619 : id == 2 ? 1755 : 1980;
    return SUCCESS;
}
int nvmlDeviceGetTemperatureV(Device *d, TemperatureV1 *out) { CHECK(d); out->temperature = 40 + d->index; return SUCCESS; }
int nvmlDeviceGetTemperature(Device *d, unsigned sensor, unsigned *out) { (void)sensor; CHECK(d); *out = (unsigned)(40 + d->index); return SUCCESS; }
static int reasons(unsigned long long *out) { *out = strtoull(setting("FAKE_NVML_REASONS", "0"), NULL, 0); return SUCCESS; }
int nvmlDeviceGetCurrentClocksEventReasons(Device *d, unsigned long long *out) { CHECK(d); return reasons(out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *d, unsigned long long *out) { CHECK(d); return reasons(out); }
int nvmlDeviceGetUtilizationRates(Device *d, Utilization *out) {
    CHECK(d);
    if (number("FAKE_NVML_MIG", 0)) return NOT_SUPPORTED; /* as real boards do in MIG mode */
    *out = (Utilization){97, 41};
    return SUCCESS;
}
static const unsigned long long GIB = 1ull << 30;
int nvmlDeviceGetMemoryInfo(Device *d, Memory *out) { CHECK(d); *out = (Memory){80 * GIB, 69 * GIB, 11 * GIB}; return SUCCESS; }
int nvmlDeviceGetMemoryInfo_v2(Device *d, MemoryV2 *out) {
    CHECK(d);
    if (out->version != 0x02000028) return 25; /* argument version mismatch */
    out->total = 80 * GIB; out->reserved = GIB; out->free = 69 * GIB; out->used = 10 * GIB;
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementLimit(Device *d, unsigned *out) { CHECK(d); *out = 700000; return SUCCESS; }
int nvmlDeviceGetPowerManagementDefaultLimit(Device *d, unsigned *out) { CHECK(d); *out = 700000; return SUCCESS; }
int nvmlDeviceGetEnforcedPowerLimit(Device *d, unsigned *out) { CHECK(d); *out = 650000; return SUCCESS; }
int nvmlDeviceGetEccMode(Device *d, unsigned *current, unsigned *pending) { CHECK(d); *current = *pending = 1; return SUCCESS; }
int nvmlDeviceGetPersistenceMode(Device *d, unsigned *out) { CHECK(d); *out = 1; return SUCCESS; }
int nvmlDeviceGetCurrPcieLinkGeneration(Device *d, unsigned *out) { CHECK(d); *out = 4; return SUCCESS; }
int nvmlDeviceGetMaxPcieLinkGeneration(Device *d, unsigned *out) { CHECK(d); *out = 5; return SUCCESS; }
int nvmlDeviceGetCurrPcieLinkWidth(Device *d, unsigned *out) { CHECK(d); *out = 8; return SUCCESS; }
int nvmlDeviceGetMaxPcieLinkWidth(Device *d, unsigned *out) { CHECK(d); *out = 16; return SUCCESS; }

int nvmlDeviceGetPciInfo_v3(Device *d, Pci *out) {
    CHECK(d);
    memset(out, 0, sizeof *out);
    out->bus = (unsigned)d->index + 1;
    snprintf(out->address, sizeof out->address, "00000000:%02X:00.0", out->bus);
    return SUCCESS;
}
/* FAKE_NVML_AFFINITY_<index>: bit mask of the first 64 CPUs; default: the first eight */
int nvmlDeviceGetCpuAffinity(Device *d, unsigned words, unsigned long *out) {
    char name[32];
    CHECK(d);
    memset(out, 0, words * sizeof *out);
    snprintf(name, sizeof name, "FAKE_NVML_AFFINITY_%d", d->index);
    if (words) out[0] = strtoul(setting(name, "0xff"), NULL, 0);
    return SUCCESS;
}

/* FAKE_NVML_PROCESSES="pid:name:bytes,..."; they run on every GPU. */
static int processes(Process *out, char names[][64]) {
    const char *at = setting("FAKE_NVML_PROCESSES", "");
    int n = 0;
    while (*at && n < MAX_PROCESSES) {
        unsigned long long bytes;
        if (sscanf(at, "%u:%63[^:]:%llu", &out[n].pid, names[n], &bytes) == 3) {
            out[n].used = bytes;
            out[n].gpu_instance = out[n].compute_instance = 0xFFFFFFFFu;
            n++;
        }
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return n;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, unsigned *count, Process *out) {
    Process all[MAX_PROCESSES];
    char names[MAX_PROCESSES][64];
    unsigned n;
    CHECK(d);
    n = (unsigned)processes(all, names);
    if (*count < n) { *count = n; return INSUFFICIENT_SIZE; }
    for (unsigned i = 0; i < n; i++) out[i] = all[i];
    *count = n;
    return SUCCESS;
}
int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned length) {
    Process all[MAX_PROCESSES];
    char names[MAX_PROCESSES][64];
    CHECK(NULL);
    for (int i = 0, n = processes(all, names); i < n; i++)
        if (all[i].pid == pid) { text(out, length, names[i]); return SUCCESS; }
    return NOT_FOUND;
}
