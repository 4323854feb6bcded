"""Small networks that together use every kind of channel coupling the tracer claims to follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hil.net.prototypes import resnet20


def conv(c_in, c_out, kernel=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class Plain(nn.Module):
    """Convolution, norm, activation, pooling, linear on flattened pictures."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv(3, 16), nn.MaxPool2d(2), conv(16, 24), nn.MaxPool2d(2))
        self.hidden = nn.Linear(24 * 4 * 4, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        x = self.features(x)
        x = torch.relu(self.hidden(x.view(x.size(0), -1)))
        return self.head(x)


class Separable(nn.Module):
    """Depthwise separable convolutions and inverted residuals that are added one on another."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        self.blocks = nn.ModuleList([self.block() for _ in range(3)])
        self.down = nn.Sequential(conv(16, 16, groups=16, stride=2), conv(16, 32, kernel=1))
        self.act = nn.PReLU(32)
        self.head = nn.Conv2d(32, 4, 1)

    @staticmethod
    def block():
        return nn.Sequential(
            conv(16, 40, kernel=1),
            conv(40, 40, groups=40),
            nn.Conv2d(40, 16, 1),
            nn.BatchNorm2d(16),
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        x = self.act(self.down(x))
        return self.head(x.mean((2, 3), keepdim=True)).flatten(1)


class UNet(nn.Module):
    """Skip connections by concatenation, transposed convolution and interpolation."""

    def __init__(self):
        super().__init__()
        self.enc1, self.enc2, self.enc3 = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.dec2, self.dec1 = conv(32, 16), conv(24, 8)
        self.head = nn.Conv2d(8, 3, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(self.pool(a))
        c = self.enc3(self.pool(b))
        d = self.dec2(torch.cat([self.up2(c), b], dim=1))
        d = nn.functional.interpolate(d, scale_factor=2.0, mode="nearest")
        return self.head(self.dec1(torch.cat([d, a], 1)))


class SqueezeExcite(nn.Module):
    """A gate computed from the channels that it multiplies, through views of their count."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 32)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Linear(32, 8), nn.Linear(8, 32)
        self.body = conv(32, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        b, c, _, _ = x.size()
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(self.pool(x).view(b, c)))))
        x = self.body(x * gate.view(b, c, 1, 1))
        return self.head(self.pool(x).flatten(1))


class Residual(nn.Module):
    """Blocks with identity, projection and pre-activation shortcuts, added in place."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16)
        self.a = nn.Sequential(conv(16, 16), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.b = nn.Sequential(conv(16, 32, stride=2), nn.Conv2d(32, 32, 3, padding=1))
        self.project = nn.Conv2d(16, 32, 1, stride=2)
        self.inner = conv(32, 32)
        self.c = conv(32, 32, kernel=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x):
        x = self.stem(x)
        out = self.a(x)
        out += x
        x = self.relu(out)
        x = self.relu(torch.add(self.b(x), self.project(x)))
        y = self.c(x)
        y = y + self.inner(y)
        x = x + y
        return self.head(x.mean([2, 3]))


def resnet():
    return resnet20(in_channels=3)


NETS = {
    "plain": Plain,
    "separable": Separable,
    "unet": UNet,
    "squeeze_excite": SqueezeExcite,
    "residual": Residual,
    "resnet20": resnet,
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=sorted(NETS))
def net(request):
    return build(request.param)


@pytest.fixture
def make_net():
    return build


def build(name):
    """The named network in evaluation mode, with norms that do something."""
    torch.manual_seed(0)
    model = NETS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture
def pictures():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
