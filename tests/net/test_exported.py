"""Networks that torch.fx cannot follow: torch.export's graph, in the network's own modules."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from hil.core.errors import ExportError
from hil.net.export import check_parity, export_onnx
from hil.net.materialise import materialise
from hil.net.space import build_space
from hil.net.trace import trace

pytestmark = pytest.mark.torch


class Shapes(nn.Module):
    """Every way of writing an operation, behind Python that asks for a shape."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.drop, self.act = nn.Dropout(0.5), nn.ReLU6(inplace=True)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.reflected = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.scale = nn.Parameter(torch.full((1,), 0.5))
        self.register_buffer("offset", torch.tensor([0.25]))
        self.hidden, self.last = nn.Linear(16 * 4 * 4, 12), nn.Linear(12, 3)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        if x.shape[2] % 8 or x.ndim != 4:
            raise ValueError("sizes must be multiples of 8")
        y = self.act(self.norm(self.conv(x)))
        y = y + functional.hardswish(self.grouped(y)) * self.scale + self.offset
        a, b = y.split([10, 6], dim=1)
        y = torch.cat([a[:, :, ::1], b], 1)
        flat = functional.adaptive_avg_pool2d(functional.max_pool2d(y, 2), 4).view(-1, 16 * 16)
        dense = functional.interpolate(self.up(y), scale_factor=0.5)
        dense = functional.pad(self.reflected(dense), (1, 1, 1, 1))[:, :, 1:-1, 1:-1]
        return {"dense": [self.head(dense)], "label": self.last(self.drop(self.hidden(flat)))}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Shapes().eval()


@pytest.fixture(scope="module")
def example():
    return torch.rand(2, 3, 16, 16)


@pytest.fixture(scope="module")
def traced(net, example):
    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(net)
    return trace(net, (example,))


def test_the_graph_calls_the_networks_own_modules(net, traced, example):
    space = build_space(traced)
    module = materialise(traced, space, space.identity)

    got, want = module(example), net(example)
    assert torch.equal(got["dense"][0], want["dense"][0])
    assert torch.equal(got["label"], want["label"])
    called = {n.target for n in traced.prototype.graph.nodes if n.op == "call_module"}
    # A reflected convolution is two operations, of which neither is the module.
    assert called == {name for name, _ in net.named_children()} - {"reflected"}
    assert module.state_dict().keys() == net.state_dict().keys()


def test_other_weights_load_into_it(net, traced, example):
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in net.state_dict().items()}
    other = Shapes().eval()
    other.load_state_dict(state)

    changed = traced.with_weights(state).prototype(example)

    assert torch.equal(changed["label"], other(example)["label"])


def test_its_channels_are_chosen_and_the_rest_says_why(traced):
    groups = {g.name: (g.each, len(g.classes)) for g in traced.groups}
    reasons = {entry.name: entry.reason for entry in traced.frozen}

    assert groups["hidden"] == (1, 12)
    assert reasons["head"] == reasons["last"] == "the task's output"
    assert set(reasons) >= {"up"}  # read by the convolution that is no module


def test_narrow_networks_train_export_and_agree(traced, example):
    space = build_space(traced)
    module = materialise(traced, space, (0,) * len(space.variables))

    data = export_onnx(module, (example,), batch=2)
    check_parity(module, data, (example,))
    module.train()
    module(example)["label"].sum().backward()


class Draws(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class OneBatch(nn.Module):
    def forward(self, x):
        if x.shape[0] == 1:
            return x.relu()
        return x.view(2, 3, 8, 8).sigmoid()


@pytest.mark.parametrize(
    ("model", "what"), [(Draws(), "different results"), (OneBatch(), "cannot trace")]
)
def test_what_cannot_be_traced_faithfully_is_refused(model, what):
    with pytest.raises(ExportError, match=what) as caught:
        trace(model, (torch.rand(1, 3, 8, 8),))

    assert caught.value.why
    assert caught.value.fix
