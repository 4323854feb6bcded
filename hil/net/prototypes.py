"""Prototypes shipped with hil; any other comes from the user's own `module:function`."""

from __future__ import annotations

from torch import Tensor, nn


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; projected by 1x1 where the shape changes (option B)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        result: Tensor = self.relu(out + self.shortcut(x))
        return result


class _SmallResNet(nn.Module):
    def __init__(self, in_channels: int, classes: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.stage1 = _stage(16, 16, 1, blocks)
        self.stage2 = _stage(16, 32, 2, blocks)
        self.stage3 = _stage(32, 64, 2, blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        result: Tensor = self.fc(self.pool(x).flatten(1))
        return result


def _stage(c_in: int, c_out: int, stride: int, blocks: int) -> nn.Sequential:
    first = _Block(c_in, c_out, stride)
    return nn.Sequential(first, *(_Block(c_out, c_out, 1) for _ in range(blocks - 1)))


def resnet20(in_channels: int = 1, classes: int = 10) -> nn.Module:
    """ResNet-20 for small pictures (He et al. 2016, section 4.2), projection shortcuts (option B).

    A 3x3 stem of 16 channels, three stages of three blocks at 16, 32 and 64 channels, global
    pooling, one linear layer. Weights are torch's default draws: seed torch before calling.
    """
    return _SmallResNet(in_channels, classes, blocks=3)


def resnet32(in_channels: int = 1, classes: int = 10) -> nn.Module:
    """ResNet-32 of the same family (He et al. 2016, table 6): five blocks a stage."""
    return _SmallResNet(in_channels, classes, blocks=5)
