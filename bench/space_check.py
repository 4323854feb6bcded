"""Every architecture of every prototype in tests/net/zoo.py is a working network: is it?

    python bench/space_check.py --archs 200 [--only unet]

Draws architectures of all kinds of choices, and for each: materialises it, compares MACs and
parameters with torch's own counter, runs it forward and backward, exports it at opset 13, runs
the file in ONNX Runtime, and checks it against the rules of TensorRT 8.2.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hil.core.errors import HilError
from hil.net.export import check_parity, export_onnx
from hil.net.features import cost
from hil.net.graph import Trace
from hil.net.materialise import materialise
from hil.net.onnxcheck import findings
from hil.net.resolution import example_of
from hil.net.space import Architecture, Choices, Space, build_space
from hil.net.trace import trace

EVERYTHING = Choices(kernels=True, resolutions="auto", precisions=("fp16", "fp32"))


def draw(space: Space, count: int, seed: int = 0) -> list[Architecture]:
    """Uniform draws from the product of choices."""
    rng = np.random.Generator(np.random.Philox(seed))
    sizes = [v.size for v in space.variables]
    return [tuple(int(c) for c in rng.integers(0, sizes)) for _ in range(count)]


def check(traced: Trace, space: Space, arch: Architecture) -> None:
    """Raise where an architecture is no working network (AssertionError, or hil's own error)."""
    network = materialise(traced, space, arch)
    inputs = example_of(traced, space, arch)
    resolution = space.resolution(arch)
    expected = traced.outputs if resolution is None else resolution.outputs
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs = tree_leaves(network(*inputs))
    assert tuple(tuple(x.shape) for x in outputs) == expected, "shapes of the results"
    counted = cost(traced, space, arch)
    assert counted.macs == counter.get_total_flops() // 2, "MACs"
    assert counted.params == sum(p.numel() for p in network.parameters()), "parameters"
    data = export_onnx(network, inputs, opset=13)
    check_parity(network, data, inputs)
    refused = [f for f in findings(data) if f.fatal]
    assert not refused, f"TensorRT 8.2 refuses {refused}"
    _train(network, inputs)


def _train(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    network.train()
    batch = tuple(torch.cat([x, x * 0.5]) for x in inputs)
    loss = sum(x.float().square().mean() for x in tree_leaves(network(*batch)))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(g is not None for g in gradients), "a parameter that nothing depends on"
    assert all(torch.isfinite(g).all() for g in gradients if g is not None), "gradients"


def load_zoo() -> ModuleType:
    """Import tests/net/zoo.py."""
    path = Path(__file__).parents[1] / "tests" / "net" / "zoo.py"
    spec = importlib.util.spec_from_file_location("hil_zoo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", type=int, default=200)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    zoo = load_zoo()
    failures = 0
    print(f"{'prototype':14} {'variables':>9} {'architectures':>13} {'failures':>8} {'CPU s':>7}")
    for name in given.only or zoo.ZOO:
        start = time.process_time()
        traced = trace(zoo.make(name), (zoo.pictures(),))
        space = build_space(traced, choices=EVERYTHING)
        archs = draw(space, given.archs, given.seed)
        failed = done = 0
        for arch in archs:
            try:
                check(traced, space, arch)
            except KeyboardInterrupt:
                break  # what was done is told all the same
            except (AssertionError, RuntimeError, ValueError, HilError) as error:
                failed += 1
                print(f"  {name} {arch}: {type(error).__name__}: {error}", file=sys.stderr)
            done += 1
        failures += failed
        spent = time.process_time() - start
        print(f"{name:14} {len(space.variables):9} {done:13} {failed:8} {spent:7.1f}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
