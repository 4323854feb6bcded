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
/* Graphs: what is enqueued while capturing is the test's to keep; a launch calls it back. */
static int capturing;
static void (*on_launch)(void);
int hil_capturing(void) { return capturing; }
void hil_on_launch(void (*call)(void)) { on_launch = call; }
int cudaStreamBeginCapture(void *stream, int mode) {
    if (!stream || mode != 1 || capturing) return 1;
    capturing = 1; return 0;
}
int cudaStreamEndCapture(void *stream, void **graph) {
    if (!stream || !capturing) return 1;
    capturing = 0; *graph = malloc(1); live++; return 0;
}
int cudaGraphInstantiate(void **ready, void *graph, void *node, char *log, size_t size) {
    if (!graph || node || log || size) return 1;
    *ready = malloc(1); live++; return 0;
}
int cudaGraphDestroy(void *graph) { free(graph); live--; return 0; }
int cudaGraphExecDestroy(void *ready) { free(ready); live--; return 0; }
int cudaGraphLaunch(void *ready, void *stream) {
    if (!ready || !stream) return 1;
    if (on_launch) on_launch();
    return 0;
}
/* Events: a clock that ticks one millisecond for every event recorded. */
static float now_ms;
int cudaEventCreate(void **event) { *event = calloc(1, sizeof(float)); live++; return 0; }
int cudaEventDestroy(void *event) { free(event); live--; return 0; }
int cudaEventRecord(void *event, void *stream) {
    if (!stream) return 400;
    now_ms += 1; *(float *)event = now_ms; return 0;
}
int cudaEventSynchronize(void *event) { return event ? 0 : 400; }
int cudaEventElapsedTime(float *ms, void *from, void *to) {
    *ms = *(float *)to - *(float *)from; return 0;
}
void hil_advance(float ms) { now_ms += ms; }
const char *cudaGetErrorString(int status) {
    return status == 2 ? "out of memory" : status == 101 ? "invalid device ordinal" : "invalid value";
}
