# The one door: CI and people call the same targets. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup nvidia python36 synthesize test test-board test-gpu check docs format lint types bench clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PyTorch's public CPU index spares machines without a GPU gigabytes of CUDA; used where it answers.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*##/\t/' | expand -t 14

setup: $(VENV)/.ready ## make .venv with hil inside (every other target calls it)

$(VENV)/.ready: pyproject.toml ci/constraints.txt ci/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH_CPU_INDEX="$(TORCH_CPU_INDEX)" sh ci/setup.sh
	@touch $@

synthesize: setup ## the main job: synthesize digit classifiers for an emulated Jetson TX2
	$(BIN)/hil synthesize --device tx2-emulated.yaml

test: setup ## all tests
	$(BIN)/pytest -n 2 --dist loadfile

test-board: setup ## the acceptance run of a real board: HOST= BOARD_USER= IDENTITY= (docs/setup-tx2.md)
	$(BIN)/python ci/board.py --host "$(HOST)" --user "$(BOARD_USER)" --identity "$(IDENTITY)" \
		--port "$(or $(PORT),22)" --root "$(or $(ROOT),/)" --fingerprint "$(FINGERPRINT)" \
		--minutes "$(or $(MINUTES),30)" --bringup-time "$(or $(BRINGUP_TIME),10m)" --only "$(STEPS)"

test-gpu: setup ## the acceptance run of this machine's NVIDIA GPU: MINUTES= STEPS= (docs/nvidia-gpu.md)
	$(BIN)/python ci/gpu.py --device "$(or $(DEVICE),nvidia-gpu.yaml)" --minutes "$(or $(MINUTES),20)" \
		--only "$(STEPS)"

docs: setup ## write docs/unverified.md from the code
	$(BIN)/python -m hil.device.unverified docs/unverified.md

nvidia: setup ## fetch NVIDIA's own bindings, runtime and CPU-only builder for the tests
	sh ci/nvidia.sh $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --timeout 30 --retries 1 -e '.[rtx]' || \
		echo "TensorRT-RTX is not to be had here, its tests skip"

python36: ## make .python36, the boards' own Python with ONNX Runtime, where 3.6 is found
	@sh ci/python36.sh

check: setup ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vermin -t=3.6- --no-tips --violations hil/agent
	$(BIN)/pytest -q tests/test_architecture.py

format: setup ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## energy, emulator, search and gate benchmarks (minutes each)
	$(BIN)/hil bench energy
	$(BIN)/hil bench emulator --coverage
	$(BIN)/hil bench search
	$(BIN)/hil bench gate --runs 100

clean: ## remove what setup and runs made
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache
