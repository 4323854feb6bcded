#!/bin/sh
# Make .python36: the boards' own Python with ONNX Runtime, for the agent's tests, where an
# interpreter 3.6 is found ($HIL_PYTHON36, pyenv, PATH). Says which it took, or why it could not.
set -u
say() { echo "agent on Python 3.6: $*"; }
works() { "$1" -c 'import sys, onnxruntime; sys.exit(sys.version_info[:2] != (3, 6))' 2>/dev/null; }
told() { say "yes, $("$1" -c 'import platform, onnxruntime
print(platform.python_version(), "with ONNX Runtime", onnxruntime.__version__)')"; }

if [ -x .python36/bin/python ] && works .python36/bin/python; then
    told .python36/bin/python
    exit 0
fi
for python in "${HIL_PYTHON36:-}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.6*/bin/python "$(command -v python3.6)"; do
    [ -n "$python" ] && [ -x "$python" ] || continue
    rm -rf .python36
    "$python" -m venv .python36 || continue
    # Its own pip is too old for the index settings of today: take the last one for 3.6 first.
    if env -u PIP_FIND_LINKS -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null \
        .python36/bin/python -m pip install --quiet --timeout 30 --retries 1 --upgrade pip==21.3.1 2>/dev/null &&
        env -u PIP_FIND_LINKS -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null \
            .python36/bin/python -m pip install --quiet --timeout 30 --retries 1 numpy==1.19.5 onnxruntime==1.10.0 2>/dev/null &&
        works .python36/bin/python; then
        told .python36/bin/python
        exit 0
    fi
    rm -rf .python36
    say "without engines: ONNX Runtime 1.10 could not be installed for $python"
    exit 0
done
say "no, there is no interpreter 3.6 here; those tests skip"
