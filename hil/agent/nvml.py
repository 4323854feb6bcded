"""NVIDIA's management library, through ctypes: energy, power and state of one GPU.

What the library cannot tell is None. A GPU that can tell neither energy nor power is no power
source: on Tegra the library, where it exists at all, answers NOT_SUPPORTED, and that must never
read as 0 W. Names and numbers are those of nvml.h.
"""

import ctypes
import os

from .errors import AgentError

_LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_NOT_SUPPORTED = 3
_NO_PERMISSION = 4
_INSUFFICIENT_SIZE = 7
# nvml.h: power right now on every architecture; GetPowerUsage is a mean over 1 s on newer ones.
_FIELD_POWER_INSTANT = 186
_SM, _MEMORY = 1, 2  # nvmlClockType_t
_FIX = "use another power source; on a Jetson that is tegrastats or ina3221"
_DRIVER = "install NVIDIA's driver and see that `nvidia-smi` lists the GPU"
_FIXES = {
    _NO_PERMISSION: "ask whoever runs this machine: `nvidia-smi -q -d POWER` must tell the "
    "power to your login, in a container too",
    9: _DRIVER,  # DRIVER_NOT_LOADED
    15: "the GPU has fallen off the bus (see `dmesg`): reboot the machine",  # GPU_IS_LOST
    18: "the driver was updated under a running kernel: reboot",  # LIB_RM_VERSION_MISMATCH
}
VISIBLE = "CUDA_VISIBLE_DEVICES"


class _Value(ctypes.Union):
    _fields_ = [
        ("d", ctypes.c_double),
        ("ui", ctypes.c_uint),
        ("ull", ctypes.c_ulonglong),
        ("sll", ctypes.c_longlong),
    ]


class _Field(ctypes.Structure):
    """nvmlFieldValue_t."""

    _fields_ = [
        ("field", ctypes.c_uint),
        ("scope", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency_us", ctypes.c_longlong),
        ("kind", ctypes.c_uint),
        ("status", ctypes.c_uint),
        ("value", _Value),
    ]


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t: percent of the last sample period (1/6 to 1 s)."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


_WIDTHS = {0: "d", 1: "ui", 2: "ull", 3: "ull", 4: "sll"}  # nvmlValueType_t


def chosen(visible):
    """Which GPU CUDA calls its first: an index on the bus, or the start of a UUID.

    Args:
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    first = (visible or "0").split(",")[0].strip()
    return int(first) if first.isdigit() else first


class Gpu:
    """The GPU that CUDA uses first; `close` when done.

    Args:
        library: file name of the library, or an object with its functions.
        visible: CUDA_VISIBLE_DEVICES of those who run networks.

    Raises:
        AgentError: `no_power` where there is no library, no driver or no such GPU.
    """

    def __init__(self, library=_LIBRARY, visible=None):
        try:
            self._nvml = ctypes.CDLL(library) if isinstance(library, str) else library
        except OSError as error:
            fix = _DRIVER + ", or use another power source"
            raise AgentError("no_power", "this machine has no NVML", str(error), fix)
        self._call("nvmlInit_v2", "NVML does not start")
        count = ctypes.c_uint(0)
        self._call("nvmlDeviceGetCount_v2", "NVML counts no GPU", ctypes.byref(count))
        if count.value == 0:
            raise AgentError("no_power", "NVML knows no GPU", "it counts 0", _FIX)
        self.count = count.value
        self._mig_named = False
        self.index, self._gpu = self._found(chosen(visible))
        self._instant = self._instant_mw()[1] is not None
        self.counts_energy = self.energy_mj() is not None
        self.tells_power = self.power_mw() is not None

    def refusal(self):
        """Why this GPU is no power source, as the error to raise; None where it is one."""
        if self._mig_named or self.mig():
            return AgentError(
                "no_power",
                "MIG is on: NVML tells the power of the whole GPU, not of one instance",
                "whatever runs on the other instances would be counted in",
                "switch MIG off (sudo nvidia-smi -i %s -mig 0), or set power.source: none to "
                "measure latency alone" % self.index,
            )
        if self.counts_energy or self.tells_power:
            return None
        energy, power = self._energy()[0], self._usage()[0]
        return AgentError(
            "no_power",
            "this GPU tells NVML neither its energy nor its power",
            "energy: %s; power: %s" % (self._said(energy), self._said(power)),
            _FIXES.get(power) or _FIXES.get(energy) or _FIX,
        )

    def settings(self):
        """What was found: name, driver, GPUs, which figures it has, and the power it may draw."""
        return {
            "gpu": self._text("nvmlDeviceGetName", self._gpu),
            "uuid": self._text("nvmlDeviceGetUUID", self._gpu),
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "gpus": self.count,
            "index": self.index,
            "energy_counter": self.counts_energy,
            "power": ("instant" if self._instant else "usage") if self.tells_power else None,
            "mig": self.mig(),
            "power_limit_mw": self._number("nvmlDeviceGetEnforcedPowerLimit"),
        }

    def energy_mj(self):
        """Energy since the driver was loaded; None where the GPU does not count it."""
        return self._energy()[1]

    def power_mw(self):
        """Power now; None where the GPU does not tell."""
        return (self._instant_mw() if self._instant else self._usage())[1]

    def mig(self):
        """Whether the GPU is split into instances; None where it cannot be."""
        now, after = ctypes.c_uint(0), ctypes.c_uint(0)
        function = getattr(self._nvml, "nvmlDeviceGetMigMode", None)
        if function is None:
            return None
        status = function(self._gpu, ctypes.byref(now), ctypes.byref(after))
        return bool(now.value) if status == _SUCCESS else None

    def clock_mhz(self, memory=False):
        """Clock of the multiprocessors, or of the memory."""
        kind = ctypes.c_uint(_MEMORY if memory else _SM)
        return self._number("nvmlDeviceGetClockInfo", kind)

    def temp_c(self):
        """Temperature of the chip."""
        return self._number("nvmlDeviceGetTemperature", ctypes.c_uint(0))

    def throttle(self):
        """Why clocks are what they are: bits of nvmlClocksEventReasons."""
        for name in ("ClocksEvent", "ClocksThrottle"):  # renamed in driver 535
            function = "nvmlDeviceGetCurrent%sReasons" % name
            found = self._ask(function, ctypes.c_ulonglong(0))[1]
            if found is not None:
                return found
        return None

    def busy_percent(self):
        """Share of the last sample period in which any kernel ran."""
        used = _Utilization()
        function = getattr(self._nvml, "nvmlDeviceGetUtilizationRates", None)
        if function is None or function(self._gpu, ctypes.byref(used)) != _SUCCESS:
            return None
        return used.gpu

    def processes(self, kind):
        """How many processes hold a context of a kind, "Compute" or "Graphics"."""
        count = ctypes.c_uint(0)
        for version in ("_v3", "_v2", ""):
            name = "nvmlDeviceGet%sRunningProcesses%s" % (kind, version)
            function = getattr(self._nvml, name, None)
            if function is None:
                continue
            # Without room for the list it says how long that would be.
            status = function(self._gpu, ctypes.byref(count), None)
            return count.value if status in (_SUCCESS, _INSUFFICIENT_SIZE) else None
        return None

    def close(self):
        """Lets the library go."""
        self._nvml.nvmlShutdown()

    def _found(self, which):
        """(index or UUID, handle) of a GPU."""
        gpu = ctypes.c_void_p()
        if isinstance(which, int):
            which_c, name = ctypes.c_uint(which), "nvmlDeviceGetHandleByIndex_v2"
        else:
            self._mig_named = which.startswith("MIG")
            which_c = ctypes.c_char_p(which.encode("utf-8"))
            name = "nvmlDeviceGetHandleByUUID"
        self._call(name, "NVML gives no GPU %s" % which, which_c, ctypes.byref(gpu))
        return which, gpu

    def _energy(self):
        value = ctypes.c_ulonglong(0)
        return self._ask("nvmlDeviceGetTotalEnergyConsumption", value)

    def _usage(self):
        return self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint(0))

    def _number(self, name, *kind):
        return self._ask(name, ctypes.c_uint(0), *kind)[1]

    def _ask(self, name, value, *kind):
        """(status, value or None)."""
        function = getattr(self._nvml, name, None)
        arguments = (self._gpu,) + kind + (ctypes.byref(value),)
        status = _NOT_SUPPORTED if function is None else function(*arguments)
        return status, value.value if status == _SUCCESS else None

    def _instant_mw(self):
        function = getattr(self._nvml, "nvmlDeviceGetFieldValues", None)
        if function is None:
            return _NOT_SUPPORTED, None
        field = _Field(field=_FIELD_POWER_INSTANT)
        status = function(self._gpu, 1, ctypes.byref(field)) or field.status
        if status != _SUCCESS or field.kind not in _WIDTHS:
            return status, None
        return status, int(getattr(field.value, _WIDTHS[field.kind]))

    def _call(self, name, what, *arguments):
        function = getattr(self._nvml, name, None)
        status = _NOT_SUPPORTED if function is None else function(*arguments)
        if status != _SUCCESS:
            why = "%s: %s" % (name, self._said(status))
            raise AgentError("no_power", what, why, "; or ".join(_given(_FIXES.get(status), _FIX)))

    def _said(self, status):
        function = getattr(self._nvml, "nvmlErrorString", None)
        if function is None:
            return "status %d" % status
        function.restype = ctypes.c_char_p
        return "%s (status %d)" % ((function(status) or b"").decode("utf-8", "replace"), status)

    def _text(self, name, *arguments):
        function = getattr(self._nvml, name, None)
        buffer = ctypes.create_string_buffer(96)
        if function is None or function(*(arguments + (buffer, ctypes.c_uint(96)))) != _SUCCESS:
            return None
        return buffer.value.decode("utf-8", "replace")


def first_gpu():
    """The GPU that CUDA uses first under this environment; see `Gpu`."""
    return Gpu(visible=os.environ.get(VISIBLE))


def _given(*texts):
    return [text for text in texts if text]
