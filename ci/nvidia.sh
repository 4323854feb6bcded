#!/bin/sh
# Fetch what NVIDIA publishes of its own libraries for tests on machines without a GPU: the Python
# bindings of several releases (names only, imported over stub libraries), those of NVML, and the CUDA
# runtime.
# Each goes to a folder of its own in .nvidia; what cannot be had is said, and its tests skip.
set -u
pip="$1/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --timeout 30 --retries 1"
fetch() {
    folder=".nvidia/$1"
    shift
    [ -e "$folder" ] && return
    if $pip --target "$folder.part" "$@" >/dev/null 2>&1; then
        mv "$folder.part" "$folder"
    else
        rm -rf "$folder.part"
        echo "not to be had here, its tests skip: $*"
    fi
}
fetch 8.6.1 tensorrt-bindings==8.6.1
fetch 8.6.1-python3.6 --python-version 3.6 --implementation cp --abi cp36m --only-binary=:all: \
    tensorrt-bindings==8.6.1
for release in 10.0.1 10.3.0 10.16.1.11 11.4.0.106; do
    fetch "$release" "tensorrt-cu12-bindings==$release"
done
fetch cudart nvidia-cuda-runtime-cu12
fetch nvml nvidia-ml-py
exit 0
