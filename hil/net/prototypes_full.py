"""Full-size ImageNet networks, for boards: their published definitions, with random weights.

Weights are torch's draws; nothing is downloaded. With weights of your own (`prototype.weights` in a
profile) the parameters' names are those of this file.
"""

from __future__ import annotations

from torch import Tensor, nn


def _conv(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, *, act: nn.Module
) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out), act]


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut; the 3x3 halves the size (He et al., and torchvision's v1.5)."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        c_out = 4 * width
        self.path = nn.Sequential(
            *_conv(c_in, width, 1, act=nn.ReLU()),
            *_conv(width, width, 3, stride, act=nn.ReLU()),
            nn.Conv2d(width, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(self.path(x) + self.shortcut(x))
        return result


class _Inverted(nn.Module):
    """MobileNet v2's inverted residual with a linear bottleneck."""

    def __init__(self, c_in: int, c_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = c_in * expand
        wide = _conv(c_in, hidden, 1, act=nn.ReLU6()) if expand != 1 else []
        self.path = nn.Sequential(
            *wide,
            *_conv(hidden, hidden, 3, stride, hidden, act=nn.ReLU6()),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.path(x) if self.adds else self.path(x)
        return result


class _Classifier(nn.Module):
    """Features, their mean over all places, and one linear layer."""

    def __init__(self, features: list[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(self.pool(self.features(x)).flatten(1))
        return result


def resnet50(in_channels: int = 3, classes: int = 1000) -> nn.Module:
    """ResNet-50 (He et al. 2016, table 1), the stride in the 3x3 convolution."""
    layers = _conv(in_channels, 64, 7, 2, act=nn.ReLU())
    layers.append(nn.MaxPool2d(3, 2, 1))
    c_in = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            layers.append(_Bottleneck(c_in, width, stride))
            c_in = 4 * width
    return _Classifier(layers, 2048, classes)


def mobilenet_v1(in_channels: int = 3, classes: int = 1000) -> nn.Module:
    """MobileNet of width 1.0 (Howard et al. 2017, table 1)."""
    layers, c_in = _conv(in_channels, 32, 3, 2, act=nn.ReLU()), 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for width, stride in [*plan, *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        layers += _conv(c_in, c_in, 3, stride, c_in, act=nn.ReLU())
        layers += _conv(c_in, width, 1, act=nn.ReLU())
        c_in = width
    return _Classifier(layers, 1024, classes)


def mobilenet_v2(in_channels: int = 3, classes: int = 1000, small: bool = False) -> nn.Module:
    """MobileNet v2 of width 1.0 (Sandler et al. 2018, table 2).

    Args:
        in_channels: of the pictures.
        classes: of the answers.
        small: for pictures of 32 pixels a side, such as CIFAR's: the first three halvings of the
            size are left out, so that the last map is 8 x 8.
    """
    layers, c_in = _conv(in_channels, 32, 3, 1 if small else 2, act=nn.ReLU6()), 32
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    plan += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, width, blocks, stride in plan:
        for block in range(blocks):
            keeps = block > 0 or (small and width in (24, 32))
            layers.append(_Inverted(c_in, width, 1 if keeps else stride, expand))
            c_in = width
    layers += _conv(320, 1280, 1, act=nn.ReLU6())
    return _Classifier(layers, 1280, classes)


class _VGG(nn.Module):
    def __init__(self, features: list[nn.Module], classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return result


def vgg16(in_channels: int = 3, classes: int = 1000) -> nn.Module:
    """VGG-16 (Simonyan and Zisserman 2015, configuration D), without batch norm."""
    layers: list[nn.Module] = []
    c_in = in_channels
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU()]
            c_in = width
        layers.append(nn.MaxPool2d(2))
    return _VGG(layers, classes)
