/* A CUDA runtime without a GPU: host memory behind the calls that the agent makes. */
#include <stdlib.h>
#include <string.h>
static int live;
int hil_live(void) { return live; }
int cudaSetDevice(int device) { return device == 0 ? 0 : 101; }
int cudaStreamCreate(void **stream) { *stream = malloc(1); live++; return 0; }
int cudaStreamDestroy(void *stream) { free(stream); live--; return 0; }
int cudaStreamSynchronize(void *stream) { return stream ? 0 : 400; }
int cudaMalloc(void **address, size_t bytes) {
    if (bytes > (1u << 30)) return 2;
    *address = malloc(bytes); live++; return 0;
}
int cudaFree(void *address) { free(address); live--; return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
    if (!stream || (kind != 1 && kind != 2)) return 1;
    memcpy(to, from, bytes); return 0;
}
int cudaDeviceGetAttribute(int *value, int number, int device) {
    if (device != 0 || (number != 75 && number != 76)) return 1;
    *value = number == 75 ? 6 : 2; return 0;
}
const char *cudaGetErrorString(int status) {
    return status == 2 ? "out of memory" : status == 101 ? "invalid device ordinal" : "invalid value";
}
