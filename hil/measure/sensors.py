"""What power sensors may be off, board by board, with where each figure comes from.

Rule of this file: data and look-ups. What is not known is None, and whoever needs it says so;
nothing is taken over from another board. No check rests on these limits: they only widen
`u95_total`.

The figures of the INA3221 are its data sheet's limits at 25 C (TI SBOS576, electrical
characteristics: shunt offset 80 uV, gain 0.25 % for shunt and for bus, one step 40 uV over the
shunt); nobody here has verified them on a board. The data sheet's bus offset (16 mV, under 0.1 %
at 19 V) and its drift with temperature are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hil.core.errors import ConfigError

# assumes: sensor-accuracy
OFFSET_UV = 80.0
STEP_UV = 40.0
GAIN = 0.0025
CONTINUOUS_TAU_S = 0.42
_INA = "INA3221 limits as stated in its data sheet (TI SBOS576), unverified on a board"


@dataclass(frozen=True)
class SensorErrors:
    """Limits of one rail's sensor; None is unknown. Limits are half widths: plus or minus.

    Attributes:
        offset_ma: what it may read where nothing flows.
        gain: relative error of the amplifier.
        shunt: relative tolerance of the resistor it reads.
        bus_mv: voltage of the rail, that turns current into power.
        lsb_ma: one step of its current register.
        tau_s: time constant of its averaging.
        bus_gain: relative error of its reading of that voltage.
        seen_part: share of the time that its readings cover; None is all of it.
        update_ms: from one of its readings to the next, where it does not see all.
        source: where the figures come from.
        why_unknown: for a sensor whose limits nobody states, why.
    """

    offset_ma: float | None = None
    gain: float | None = None
    shunt: float | None = None
    bus_mv: float | None = None
    lsb_ma: float | None = None
    tau_s: float | None = None
    bus_gain: float | None = None
    seen_part: float | None = None
    update_ms: float | None = None
    source: str = ""
    why_unknown: str | None = None

    @property
    def offset_w(self) -> float | None:
        """The offset as power."""
        if self.offset_ma == 0:
            return 0.0
        return _product_w(self.offset_ma, self.bus_mv)

    @property
    def lsb_w(self) -> float | None:
        """One step as power."""
        return _product_w(self.lsb_ma, self.bus_mv)

    def missing(self, *, offset: bool = True) -> str | None:
        """Say why no total uncertainty can be named, None where one can.

        Args:
            offset: whether the figure depends on the offset (a difference of two readings of
                one sensor does not).
        """
        wanted = {"gain": self.gain, "shunt": self.shunt}
        if offset:
            wanted |= {"offset_ma and bus_mv": self.offset_w}
        lacking = [name for name, value in wanted.items() if value is None]
        if not lacking:
            return None
        why = self.why_unknown or "the sensor's limits are not known"
        return (
            f"{why} ({', '.join(lacking)}); state them as power.sensor in the device file, "
            "or compare with a reference meter"
        )


def _product_w(current_ma: float | None, bus_mv: float | None) -> float | None:
    return None if current_ma is None or bus_mv is None else current_ma * bus_mv / 1e6


# assumes: shunt-tolerance
def _ina3221(shunt_mohm: float, bus_mv: float, source: str) -> SensorErrors:
    return SensorErrors(
        offset_ma=OFFSET_UV / shunt_mohm,
        gain=GAIN,
        shunt=0.01,
        bus_mv=bus_mv,
        lsb_ma=STEP_UV / shunt_mohm,
        tau_s=CONTINUOUS_TAU_S,
        bus_gain=GAIN,
        source=f"{_INA}; {source}",
    )


def _unknown(why: str, tau_s: float | None = None) -> SensorErrors:
    return SensorErrors(tau_s=tau_s, source=why, why_unknown=why)


_TX2 = (
    "shunt of {} mOhm inferred from register steps in recorded lines; its tolerance taken as the "
    "1 % of the AGX Xavier's design guide, not known for this board"
)
# assumes: rail-names, bus-voltage, shunts
_TX2_RAILS = {
    "VDD_IN": (20.0, 19144.0),
    "VDD_SYS_GPU": (10.0, 19136.0),
    "VDD_SYS_SOC": (10.0, 19144.0),
    "VDD_SYS_CPU": (10.0, 19128.0),
    "VDD_4V0_WIFI": (10.0, 4784.0),
    "VDD_SYS_DDR": (10.0, 4776.0),
}
# L4T r28 called them otherwise.
_TX2_OLD = {"VDD_GPU": "VDD_SYS_GPU", "VDD_SOC": "VDD_SYS_SOC", "VDD_CPU": "VDD_SYS_CPU"} | {
    "VDD_WIFI": "VDD_4V0_WIFI",
    "VDD_DDR": "VDD_SYS_DDR",
}
_JETSON = "shunts and their tolerance are not known for the {}"
TOTAL_RAILS: Mapping[str, str | None] = {
    "jetson-tx2": "VDD_IN",
    "jetson-nano": "POM_5V_IN",
    "jetson-xavier-nx": "VDD_IN",
    "jetson-agx-xavier": None,
    "jetson-orin-nano": "VDD_IN",
    "jetson-orin-nx": "VDD_IN",
    "jetson-agx-orin": None,
}
"""By board, the rail that holds the whole module; None where tegrastats prints none that does."""
_NAMES = {
    "jetson-nano": "Jetson Nano",
    "jetson-xavier-nx": "Xavier NX",
    "jetson-agx-xavier": "AGX Xavier",
    "jetson-orin-nano": "Orin Nano",
    "jetson-orin-nx": "Orin NX",
    "jetson-agx-orin": "AGX Orin",
}
# Power meters that are no board's own: by source.
_SOURCES = {
    # The quarter is published of A100 and H100 and taken for every other GPU: no better is known.
    "nvml": replace(
        _unknown(
            "NVML states an accuracy for Fermi and Kepler GPUs alone (5 %, "
            "nvmlDeviceGetPowerUsage); for later ones it states none, and some look at power a "
            "quarter of the time (arXiv 2312.02741)"
        ),
        seen_part=0.25,
        update_ms=100.0,
    ),
    "rapl": _unknown("RAPL's accuracy is not stated by its maker, and it may be a model"),
    "command": _unknown("what an external meter may be off is for its owner to state", tau_s=0.0),
}


def sensor_of(
    board: str,
    overrides: Any = None,
    *,
    rail: str | None = None,
    source: str | None = None,
) -> SensorErrors | None:
    """Return the limits of a board's sensor.

    Args:
        board: its name in the device file, e.g. "jetson-tx2".
        overrides: `power.sensor` of the device file: a mapping or a model with the fields of
            `SensorErrors`; what it leaves out (None) is the table's.
        rail: which rail; None is the one that holds the whole module.
        source: where power is read from; the table of boards holds for tegrastats and ina3221.

    Returns:
        None where nothing at all is known.

    Raises:
        ConfigError: an override of a name that is no field, or not a number of 0 or more.
    """
    base = _table(board, rail, source)
    given = _given(overrides)
    if not given:
        return base
    told = "as stated in the device file: " + ", ".join(f"{k} {v:g}" for k, v in given.items())
    start = replace(base or SensorErrors(), source=f"{told}; else {base.source}" if base else told)
    numbers: dict[str, Any] = dict(given)
    return replace(start, **numbers)


def board_of(model: str | None) -> str | None:
    """Return the table's name of a board by the model that its kernel tells, None if unknown."""
    text = (model or "").lower()
    if "tx2 nx" in text:
        return None
    if text == "quill":  # what the kernel of a TX2 developer kit calls it
        return "jetson-tx2"
    for name, called in {"jetson-tx2": "TX2", **_NAMES}.items():
        if called.lower() in text or name in text:
            return name
    return None


def _table(board: str, rail: str | None, source: str | None) -> SensorErrors | None:
    if source in _SOURCES:
        return _SOURCES[source]
    if board == "jetson-tx2":
        name = rail or "VDD_IN"
        known = _TX2_RAILS.get(_TX2_OLD.get(name, name))
        if known is None:
            return _unknown(f"nothing is known of a rail {name} of this board")
        return _ina3221(known[0], known[1], _TX2.format(f"{known[0]:g}"))
    if board in _NAMES:
        return _unknown(_JETSON.format(_NAMES[board]))
    return None


def _given(overrides: Any) -> dict[str, float]:
    if overrides is None:
        return {}
    dump = getattr(overrides, "model_dump", None)
    found: Mapping[str, Any] = dump() if callable(dump) else overrides
    if isinstance(overrides, SensorErrors):
        found = {f.name: getattr(overrides, f.name) for f in fields(overrides)}
    numbers = {f.name for f in fields(SensorErrors)} - {"source", "why_unknown"}
    given = {}
    for name, value in found.items():
        if value is None or name in ("source", "why_unknown"):
            continue
        if name not in numbers:
            raise ConfigError(
                f"power.sensor has no {name!r}", fix=f"it takes {', '.join(sorted(numbers))}"
            )
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigError(f"power.sensor.{name} is {value!r} and must be a number, 0 or more")
        given[name] = float(value)
    return given
