"""Holds the stand-in to the names that TensorRT 8.2.1 really has.

`Guarded` refuses a class with a public name that NVIDIA's own list lacks as soon as it is
defined, and gives instances no place for attributes that the real classes would refuse.
"""

import json
from pathlib import Path

from hil.emulator import trt

_LIST = Path(trt.__file__).resolve().parents[1] / "data" / "api_tensorrt_source-8.2.1.json"
NAMES = json.loads(_LIST.read_text(encoding="utf-8"))
MERGED = {"ITensor": "LayerType", "IHostMemory": "WeightsRole", "Dims": "Dims"}
"""Classes whose members the list shows under the entry declared before them."""
NESTED = {"Logger": ("Severity",)}
"""Enums whose values their class exports as well."""


def real_names(name):
    """Public names of a class of the real 8.2.1."""
    names = set(NAMES.get(MERGED.get(name, name), ()))
    for enum in NESTED.get(name, ()):
        names |= {enum, *NAMES[enum]}
    return names


class Guarded:
    """A class of the stand-in; the real one has every public name that it has."""

    __slots__ = ()

    def __init_subclass__(cls, real=None, **options):
        super().__init_subclass__(**options)
        if real is None:
            return
        strange = {name for name in vars(cls) if not name.startswith("_")} - real_names(real)
        if strange:
            raise TypeError(f"TensorRT 8.2.1 has no {real}.{', '.join(sorted(strange))}")

    def __getattr__(self, name):
        kind = type(self).__name__
        known = name in real_names(kind)
        hint = " (the real one has; the emulated board does not offer it)" if known else ""
        raise AttributeError(f"'tensorrt.tensorrt.{kind}' object has no attribute '{name}'{hint}")
