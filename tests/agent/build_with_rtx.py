"""Builds plans with the agent's own code and NVIDIA's TensorRT-RTX, on a machine without a GPU.

Reads requests (one JSON object a line) and writes results or errors likewise. The one thing that
is not the agent's: the GPU that plans are for is named, since there is none to ask.
"""

import json
import os
import sys

import tensorrt_rtx

from hil.agent import trt_build, trt_dialect
from hil.agent.errors import from_exception
from hil.agent.stderrlog import StderrLog


class Builder(tensorrt_rtx.Builder):
    def create_builder_config(self):
        config = tensorrt_rtx.Builder.create_builder_config(self)
        config.num_compute_capabilities = 1
        config.set_compute_capability(tensorrt_rtx.ComputeCapability.SM86, 0)
        return config


class Rtx:
    """The module, but for `Builder`."""

    Builder = Builder

    def __getattr__(self, name):
        return getattr(tensorrt_rtx, name)


def answer(want):
    rtx = Rtx()
    dialect = trt_dialect.choose(rtx)
    try:
        notes = trt_build.build(rtx, dialect, want, StderrLog())
    except Exception as error:  # noqa: BLE001 - as the worker does
        return {"error": from_exception(error).as_dict()}
    return {"notes": notes, "dialect": dialect.NAME, "bytes": os.path.getsize(want["engine"])}


out = os.dup(1)
os.dup2(2, 1)  # what the library prints must not look like an answer
for line in sys.stdin:
    os.write(out, (json.dumps(answer(json.loads(line))) + "\n").encode())
os._exit(0)  # nothing of a library without a driver is torn down
