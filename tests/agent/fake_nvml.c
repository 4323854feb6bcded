/* NVML without a GPU; FAKE_NVML says what kind of machine it plays. Signatures as in nvml.h. */
#include <stdlib.h>
#include <string.h>
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4 };
enum { NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    unsigned valueType, nvmlReturn;
    union { double d; unsigned ui; unsigned long long ull; } value;
} field_t;
static int handle, second;
static unsigned calls;
static int plays(const char *name) {
    const char *said = getenv("FAKE_NVML");
    return said && strcmp(said, name) == 0;
}
int nvmlInit_v2(void) { return plays("no driver") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = plays("no gpu") ? 0 : 2; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) {
    if (index > 1) return INVALID_ARGUMENT;
    *gpu = index == 0 ? &handle : &second;
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **gpu) {
    if (strcmp(uuid, "GPU-0000") == 0 || strncmp(uuid, "MIG-", 4) == 0) *gpu = &handle;
    else if (strcmp(uuid, "GPU-0001") == 0) *gpu = &second;
    else return NOT_FOUND;
    return SUCCESS;
}
/* What only "new" machines tell: clocks, their reasons, processes. */
static int tells(void) { return plays("new") || plays("mig") || plays("busy"); }
int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *after) {
    if (!tells()) return NOT_SUPPORTED;
    *now = *after = plays("mig");
    return SUCCESS;
}
int nvmlDeviceGetClockInfo(void *gpu, unsigned kind, unsigned *mhz) {
    if (!tells() || (kind != 1 && kind != 2)) return NOT_SUPPORTED;
    *mhz = kind == 1 ? 1980 : 2619;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(void *gpu, unsigned sensor, unsigned *celsius) {
    if (!tells() || sensor != 0) return NOT_SUPPORTED;
    *celsius = 41;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *gpu, unsigned long long *bits) {
    if (!tells()) return NOT_SUPPORTED;
    *bits = plays("busy") ? 0x24 : 0x1;
    return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(void *gpu, unsigned *percent) {
    if (!tells()) return NOT_SUPPORTED;
    percent[0] = 37;
    percent[1] = 5;
    return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *count, void *list) {
    if (!tells()) return NOT_SUPPORTED;
    if (list != 0 || *count != 0) return INVALID_ARGUMENT;
    *count = plays("busy") ? 3 : 1;
    return INSUFFICIENT_SIZE;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *gpu, unsigned *count, void *list) {
    if (!tells()) return NOT_SUPPORTED;
    *count = 0;
    return SUCCESS;
}
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, unsigned *mw) {
    if (!tells()) return NOT_SUPPORTED;
    *mw = 700000;
    return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *energy_mj) {
    if (plays("locked")) return NO_PERMISSION;
    if (gpu != &handle && gpu != &second) return INVALID_ARGUMENT;
    if (plays("old") || plays("tegra") || plays("very old")) return NOT_SUPPORTED;
    /* Past 32 bits, so that a narrow read shows. */
    *energy_mj = 5000000000000ULL + 7000ULL * calls++;
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *power_mw) {
    if (plays("locked")) return NO_PERMISSION;
    if (gpu != &handle && gpu != &second) return INVALID_ARGUMENT;
    if (plays("tegra")) return NOT_SUPPORTED;
    *power_mw = 71500;
    return SUCCESS;
}
int nvmlDeviceGetFieldValues(void *gpu, int count, field_t *fields) {
    if ((gpu != &handle && gpu != &second) || count != 1) return INVALID_ARGUMENT;
    if (plays("locked")) return NO_PERMISSION;
    if (plays("tegra") || plays("very old")) return NOT_SUPPORTED;
    fields->nvmlReturn = fields->fieldId == 186 && !plays("old") ? SUCCESS : NOT_SUPPORTED;
    fields->valueType = 1;
    fields->value.ui = 90250;
    return SUCCESS;
}
int nvmlDeviceGetName(void *gpu, char *text, unsigned size) {
    strncpy(text, gpu == &handle ? "NVIDIA Fake 100" : "NVIDIA Fake 200", size);
    return SUCCESS;
}
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned size) {
    strncpy(text, gpu == &handle ? "GPU-0000" : "GPU-0001", size);
    return SUCCESS;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    strncpy(text, "550.54", size);
    return SUCCESS;
}
const char *nvmlErrorString(int status) {
    if (status == NO_PERMISSION) return "Insufficient Permissions";
    if (status == NOT_FOUND) return "Not Found";
    return status == NOT_SUPPORTED ? "Not Supported" : "Driver Not Loaded";
}
