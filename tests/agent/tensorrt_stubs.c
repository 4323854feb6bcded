/* What NVIDIA's binding modules import from its libraries, without a library: enough to be imported. */
#define STUB(name) void *name(void) { return 0; }
STUB(createInferBuilder_INTERNAL)
STUB(createInferRefitter_INTERNAL)
STUB(createInferRuntime_INTERNAL)
STUB(createNvOnnxParser_INTERNAL)
STUB(createNvOnnxParserRefitter_INTERNAL)
STUB(getBuilderPluginRegistry)
STUB(getNvOnnxParserVersion)
STUB(getPluginRegistry)
STUB(initLibNvInferPlugins)
/* of the parsers that went with 9 */
STUB(_ZN11nvuffparser15createUffParserEv)
STUB(_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi)
STUB(_ZN14nvcaffeparser117createCaffeParserEv)
STUB(_ZN14nvcaffeparser123shutdownProtobufLibraryEv)
