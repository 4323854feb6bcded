"""NVIDIA GPUs of hosts: `gpu_energy=123456mJ gpu_power=71500mW`, what the GPU cannot tell left out.

The library is loaded by a process of its own: neither its threads nor its faults are the agent's.
"""

import json

from . import nvml, procs
from .errors import AgentError
from .selfstart import last_words, own_argv

_LIMIT_S = 20.0


def start(board, spec):
    """Command line and settings.

    Raises:
        AgentError: `no_power` where NVML or the GPU has none.
    """
    asked = procs.run(board.children, own_argv(["sample", "nvml", "--describe"]), _LIMIT_S)
    if asked.status != 0:
        raise last_words(asked.errors) or AgentError(
            "no_power", "NVML could not be asked", asked.tail(), "run nvidia-smi on the machine"
        )
    argv = own_argv(["sample", "nvml", "--interval-ms", str(spec["interval_ms"])])
    return argv, json.loads(asked.output)


def sampler(_root):
    """Function that reads energy and power once and gives a line.

    Raises:
        AgentError: `no_power` as in `start`.
    """
    gpu = nvml.Gpu()

    def read():
        tokens = []
        if gpu.counts_energy:
            energy_mj = gpu.energy_mj()
            tokens += [] if energy_mj is None else ["gpu_energy=%dmJ" % energy_mj]
        if gpu.tells_power:
            power_mw = gpu.power_mw()
            tokens += [] if power_mw is None else ["gpu_power=%dmW" % power_mw]
        if not tokens:
            raise AgentError("no_power", "the GPU no longer tells its energy or power")
        return " ".join(tokens)

    return read


def describe():
    """What NVML and the GPU say of themselves.

    Raises:
        AgentError: `no_power` as in `start`.
    """
    gpu = nvml.Gpu()
    try:
        return gpu.settings()
    finally:
        gpu.close()
