#!/bin/sh
# Make the virtual environment. Keeps an installed torch (a user's own CUDA build included);
# on a machine without an NVIDIA GPU takes the CPU build, so that nobody downloads CUDA unasked.
set -eu
"$PYTHON" - <<'PY'
import sys
if sys.version_info < (3, 11):
    sys.exit("hil needs Python 3.11 or newer, this is %s; next: make setup PYTHON=python3.11"
             % sys.version.split()[0])
PY
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV" || {
    echo "cannot make a virtual environment; next: install venv (Debian: apt install python3-venv)" >&2
    exit 2
}
pip="$VENV/bin/python -m pip install --quiet --disable-pip-version-check"
torch_there() { "$VENV/bin/python" -c 'import importlib.util as u,sys; sys.exit(u.find_spec("torch") is None)'; }
if torch_there; then
    $pip -e '.[dev]'
elif command -v nvidia-smi >/dev/null 2>&1; then
    $pip -e '.[dev]'
else
    # The CPU build: from PyTorch's own index where it answers, else the pin in ci/constraints.txt
    # (on Linux x86-64 that pin may come as a larger CUDA build; it works without a GPU as well).
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --retries 0 --timeout 10 \
        --index-url "$TORCH_CPU_INDEX" -c ci/constraints.txt torch 2>/dev/null || true
    $pip -c ci/constraints.txt -e '.[dev]'
fi
