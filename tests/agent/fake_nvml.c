/* NVML without a GPU; FAKE_NVML says what kind of machine it plays. Signatures as in nvml.h. */
#include <stdlib.h>
#include <string.h>
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9 };
typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    unsigned valueType, nvmlReturn;
    union { double d; unsigned ui; unsigned long long ull; } value;
} field_t;
static int handle;
static unsigned calls;
static int plays(const char *name) {
    const char *said = getenv("FAKE_NVML");
    return said && strcmp(said, name) == 0;
}
int nvmlInit_v2(void) { return plays("no driver") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = plays("no gpu") ? 0 : 2; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) {
    if (index != 0) return INVALID_ARGUMENT;
    *gpu = &handle;
    return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *energy_mj) {
    if (gpu != &handle) return INVALID_ARGUMENT;
    if (plays("old") || plays("tegra") || plays("very old")) return NOT_SUPPORTED;
    /* Past 32 bits, so that a narrow read shows. */
    *energy_mj = 5000000000000ULL + 7000ULL * calls++;
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *power_mw) {
    if (gpu != &handle) return INVALID_ARGUMENT;
    if (plays("tegra")) return NOT_SUPPORTED;
    *power_mw = 71500;
    return SUCCESS;
}
int nvmlDeviceGetFieldValues(void *gpu, int count, field_t *fields) {
    if (gpu != &handle || count != 1) return INVALID_ARGUMENT;
    if (plays("tegra") || plays("very old")) return NOT_SUPPORTED;
    fields->nvmlReturn = fields->fieldId == 186 && !plays("old") ? SUCCESS : NOT_SUPPORTED;
    fields->valueType = 1;
    fields->value.ui = 90250;
    return SUCCESS;
}
int nvmlDeviceGetName(void *gpu, char *text, unsigned size) {
    strncpy(text, "NVIDIA Fake 100", size);
    return gpu == &handle ? SUCCESS : INVALID_ARGUMENT;
}
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned size) {
    strncpy(text, "GPU-0000", size);
    return gpu == &handle ? SUCCESS : INVALID_ARGUMENT;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    strncpy(text, "550.54", size);
    return SUCCESS;
}
const char *nvmlErrorString(int status) {
    return status == NOT_SUPPORTED ? "Not Supported" : "Driver Not Loaded";
}
