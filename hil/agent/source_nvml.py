"""NVIDIA GPUs of hosts: `gpu_energy=123456mJ gpu_power=71500mW sm_clock=1980MHz ...`.

A line a reading, what the GPU cannot tell left out. The library is loaded by a process of its own:
neither its threads nor its faults are the agent's. Beside energy and power a line tells what judges
them: clocks, temperature, why clocks are held down, how busy the GPU was, and once a second how
many processes hold it.
"""

import json

from . import nvml, procs
from .errors import AgentError
from .selfstart import last_words, own_argv

_LIMIT_S = 20.0
_COUNT_EACH = 10
"""Lines from one count of processes to the next: the driver walks a list for it."""


def start(board, spec):
    """Command line and settings.

    Raises:
        AgentError: `no_power` where NVML or the GPU has none, or it is not of one GPU alone.
    """
    told = _described(board)
    if told.get("refused"):
        refused = told["refused"]
        raise AgentError("no_power", refused["message"], refused["why"], refused["fix"])
    argv = own_argv(["sample", "nvml", "--interval-ms", str(spec["interval_ms"])])
    return argv, told


def about(board):
    """The GPU as `probe` tells it: as `describe`, or {"missing": error} where none answers."""
    try:
        return _described(board)
    except AgentError as error:
        return {"missing": error.as_dict()}


def _described(board):
    asked = procs.run(board.children, own_argv(["sample", "nvml", "--describe"]), _LIMIT_S)
    if asked.status != 0:
        raise last_words(asked.errors) or AgentError(
            "no_power", "NVML could not be asked", asked.tail(), "run nvidia-smi on the machine"
        )
    return json.loads(asked.output)


def sampler(_root, gpu=None):
    """Function that reads the GPU once and gives a line.

    Raises:
        AgentError: `no_power` as in `start`.
    """
    gpu = gpu or nvml.first_gpu()
    refusal = gpu.refusal()
    if refusal is not None:
        raise refusal
    asked = [0]

    def read():
        tokens = []
        if gpu.counts_energy:
            tokens += _token("gpu_energy", gpu.energy_mj(), "mJ")
        if gpu.tells_power:
            tokens += _token("gpu_power", gpu.power_mw(), "mW")
        if not tokens:
            raise AgentError("no_power", "the GPU no longer tells its energy or power")
        tokens += _token("sm_clock", gpu.clock_mhz(), "MHz")
        tokens += _token("memory_clock", gpu.clock_mhz(memory=True), "MHz")
        tokens += _token("gpu_temp", gpu.temp_c(), "C")
        tokens += _token("throttle", gpu.throttle(), "bits")
        tokens += _token("gpu_busy", gpu.busy_percent(), "%")
        if asked[0] % _COUNT_EACH == 0:
            tokens += _token("processes", gpu.processes("Compute"), "held")
            tokens += _token("displays", gpu.processes("Graphics"), "held")
        asked[0] += 1
        return " ".join(tokens)

    return read


def _token(name, value, unit):
    return [] if value is None else ["%s=%d%s" % (name, value, unit)]


def describe():
    """What NVML and the GPU say of themselves; `refused` is why it is no power source.

    Raises:
        AgentError: `no_power` where no GPU answers at all.
    """
    gpu = nvml.first_gpu()
    try:
        refusal = gpu.refusal()
        return dict(gpu.settings(), refused=None if refusal is None else refusal.as_dict())
    finally:
        gpu.close()
