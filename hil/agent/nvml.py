"""NVIDIA's management library, through ctypes: energy and power of one GPU.

What the library cannot tell is None. A GPU that can tell neither is no power source: on Tegra
the library, where it exists at all, answers NOT_SUPPORTED, and that must never read as 0 W.
"""

import ctypes

from .errors import AgentError

_LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_NOT_SUPPORTED = 3
# nvml.h: power right now on every architecture; GetPowerUsage is a mean over 1 s on newer ones.
_FIELD_POWER_INSTANT = 186
_FIX = "use another power source; on a Jetson that is tegrastats or ina3221"


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


_WIDTHS = {0: "d", 1: "ui", 2: "ull", 3: "ull", 4: "sll"}  # nvmlValueType_t


class Gpu:
    """The first GPU that NVML knows; `close` when done.

    Raises:
        AgentError: `no_power` where there is no library, no driver, no GPU, or a GPU that tells
            neither energy nor power.
    """

    def __init__(self, library=_LIBRARY):
        try:
            self._nvml = ctypes.CDLL(library)
        except OSError as error:
            raise AgentError("no_power", "this machine has no NVML", str(error), _FIX)
        self._call("nvmlInit_v2", "NVML does not start")
        count = ctypes.c_uint(0)
        self._call("nvmlDeviceGetCount_v2", "NVML counts no GPU", ctypes.byref(count))
        if count.value == 0:
            raise AgentError("no_power", "NVML knows no GPU", "it counts 0", _FIX)
        self.count = count.value
        self._gpu = ctypes.c_void_p()
        self._call(
            "nvmlDeviceGetHandleByIndex_v2",
            "NVML gives no GPU",
            ctypes.c_uint(0),
            ctypes.byref(self._gpu),
        )
        energy, self._instant = self._energy(), self._instant_mw()[1] is not None
        power = self.power_mw()
        if energy[1] is None and power is None:
            raise AgentError(
                "no_power",
                "this GPU tells NVML neither its energy nor its power",
                "energy: %s; power: %s" % (self._said(energy[0]), self._said(self._usage()[0])),
                _FIX,
            )
        self.counts_energy = energy[1] is not None
        self.tells_power = power is not None

    def settings(self):
        """What was found: name, driver, GPUs, and which figures it has."""
        return {
            "gpu": self._text("nvmlDeviceGetName", self._gpu),
            "uuid": self._text("nvmlDeviceGetUUID", self._gpu),
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "gpus": self.count,
            "energy_counter": self.counts_energy,
            "power": ("instant" if self._instant else "usage") if self.tells_power else None,
        }

    def energy_mj(self):
        """Energy since the driver was loaded; None where the GPU does not count it."""
        return self._energy()[1]

    def power_mw(self):
        """Power now; None where the GPU does not tell."""
        return (self._instant_mw() if self._instant else self._usage())[1]

    def close(self):
        """Lets the library go."""
        self._nvml.nvmlShutdown()

    def _energy(self):
        value = ctypes.c_ulonglong(0)
        return self._ask("nvmlDeviceGetTotalEnergyConsumption", value)

    def _usage(self):
        return self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint(0))

    def _ask(self, name, value):
        """(status, value or None)."""
        function = getattr(self._nvml, name, None)
        status = _NOT_SUPPORTED if function is None else function(self._gpu, ctypes.byref(value))
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
            raise AgentError("no_power", what, "%s: %s" % (name, self._said(status)), _FIX)

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
