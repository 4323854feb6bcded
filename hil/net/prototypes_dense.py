"""Prototypes that answer for every place of a picture: two segmenters and a detector.

Plain networks of published designs, small enough for small data; every layer exports at opset 13
with operators of TensorRT 8.2. Weights are torch's draws: seed torch before calling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016), projected where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(c_in, c_out, stride=stride)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(self.bn2(self.conv2(self.conv1(x))) + self.shortcut(x))
        return result


class _Backbone(nn.Module):
    """A ResNet without its end: one map a stage, the first at half size, each next at half of it.

    Args:
        in_channels: of the pictures.
        widths: channels of each stage.
        blocks: residual blocks a stage.
        stem_stride: 2 halves the size before the first stage, 1 does not.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], blocks: int, stem_stride: int
    ) -> None:
        super().__init__()
        self.stem = _conv(in_channels, widths[0], stride=stem_stride)
        stages, before = [], widths[0]
        for width in widths:
            first = _Residual(before, width, 2)
            rest = (_Residual(width, width, 1) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _ResidualUnit(nn.Module):
    """RefineNet's residual convolution unit: ReLU first, no norms within it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.conv2(functional.relu(self.conv1(functional.relu(x))))
        return x + branch


class _ChainedPooling(nn.Module):
    """RefineNet's chained residual pooling, of two 5x5 poolings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        path: Tensor = self.first(functional.max_pool2d(x, 5, 1, 2))
        x = x + path
        path = self.second(functional.max_pool2d(path, 5, 1, 2))
        return x + path


class _Fusion(nn.Module):
    """One RefineNet block: a finer map and what came of the coarser ones, fused and pooled."""

    def __init__(self, c_in: int, width: int, coarser: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(c_in, width, 1, bias=False)
        self.adapt = _ResidualUnit(width)
        self.fuse = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.below = nn.Conv2d(width, width, 3, padding=1, bias=False) if coarser else None
        self.pool = _ChainedPooling(width)
        self.leave = _ResidualUnit(width)

    def forward(self, x: Tensor, coarse: Tensor | None = None) -> Tensor:
        x = self.fuse(self.adapt(self.enter(x)))
        if self.below is not None and coarse is not None:
            larger = functional.interpolate(
                self.below(coarse), scale_factor=2.0, mode="bilinear", align_corners=False
            )
            x = x + larger
        result: Tensor = self.leave(self.pool(x))
        return result


class _RefineNet(nn.Module):
    def __init__(
        self, in_channels: int, classes: int, widths: Sequence[int], blocks: int, width: int
    ) -> None:
        super().__init__()
        self.backbone = _Backbone(in_channels, widths, blocks, stem_stride=2)
        last = len(widths) - 1
        self.fusions = nn.ModuleList(
            _Fusion(own, width, coarser=i < last) for i, own in enumerate(widths)
        )
        self.classify = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        fused = self.fusions[-1](maps[-1])
        for i in range(len(maps) - 2, -1, -1):
            fused = self.fusions[i](maps[i], fused)
        scores = self.classify(fused)
        return functional.interpolate(
            scores, scale_factor=4.0, mode="bilinear", align_corners=False
        )


def refinenet(
    in_channels: int = 3,
    classes: int = 11,
    widths: Sequence[int] = (32, 64, 128, 256),
    blocks: int = 2,
    width: int = 64,
) -> nn.Module:
    """RefineNet-like segmenter (Lin et al., CVPR 2017) on a ResNet-18-like backbone.

    Maps at a quarter of the size, an eighth and so on, one a width, are fused from coarse to fine;
    logits are enlarged to the picture's size. Sides must be multiples of 2^(widths + 1).

    Args:
        in_channels: of the pictures.
        classes: void not counted.
        widths: channels of the backbone's stages.
        blocks: residual blocks a stage.
        width: channels of the fused maps.
    """
    return _RefineNet(in_channels, classes, widths, blocks, width)


class _UNet(nn.Module):
    def __init__(self, in_channels: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(zip([in_channels, *widths[:-1]], widths, strict=True))
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b), _conv(b, b)) for a, b in pairs)
        upward = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in upward)
        self.up = nn.ModuleList(nn.Sequential(_conv(2 * b, b), _conv(b, b)) for _, b in upward)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, stage in enumerate(self.down):
            x = stage(x if i == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        for grow, up, beside in zip(self.grow, self.up, kept[-2::-1], strict=True):
            x = up(torch.cat([beside, grow(x)], dim=1))
        result: Tensor = self.head(x)
        return result


def unet(
    in_channels: int = 3, classes: int = 11, widths: Sequence[int] = (32, 64, 128, 256)
) -> nn.Module:
    """U-Net-like segmenter (Ronneberger et al., MICCAI 2015), padded, with batch norm.

    Logits at the picture's size; sides must be multiples of 2^(widths - 1).

    Args:
        in_channels: of the pictures.
        classes: void not counted.
        widths: channels at each size, the picture's own first.
    """
    return _UNet(in_channels, classes, widths)


class _Head(nn.Module):
    """Class logits and distances of one level, from towers of its own."""

    def __init__(self, width: int, classes: int, depth: int, rare: float) -> None:
        super().__init__()
        self.classes = nn.Sequential(*(_conv(width, width) for _ in range(depth)))
        self.sides = nn.Sequential(*(_conv(width, width) for _ in range(depth)))
        self.score = nn.Conv2d(width, classes, 3, padding=1)
        self.distance = nn.Conv2d(width, 4, 3, padding=1)
        # Few cells hold anything: start out sure of that (Lin et al., "Focal loss", 2017, 4.1).
        nn.init.constant_(self.score.bias, math.log(rare / (1 - rare)))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        score, distance = self.score(self.classes(x)), self.distance(self.sides(x))
        return torch.cat([score, distance], dim=1)


class _PyramidDetector(nn.Module):
    def __init__(
        self,
        in_channels: int,
        classes: int,
        widths: Sequence[int],
        blocks: int,
        width: int,
        levels: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.backbone = _Backbone(in_channels, widths, blocks, stem_stride=1)
        self.lateral = nn.ModuleList(nn.Conv2d(w, width, 1) for w in widths[-levels:])
        self.smooth = nn.ModuleList(_conv(width, width) for _ in range(levels))
        self.heads = nn.ModuleList(_Head(width, classes, depth, 0.02) for _ in range(levels))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(x)[-len(self.lateral) :]
        above = self.lateral[-1](maps[-1])
        pyramid = [above]
        for i in range(len(maps) - 2, -1, -1):
            larger = functional.interpolate(above, scale_factor=2.0, mode="nearest")
            above = self.lateral[i](maps[i]) + larger
            pyramid.insert(0, above)
        return tuple(
            head(smooth(level))
            for head, smooth, level in zip(self.heads, self.smooth, pyramid, strict=True)
        )


def pyramid_detector(
    in_channels: int = 3,
    classes: int = 3,
    widths: Sequence[int] = (32, 64, 128, 256),
    blocks: int = 2,
    width: int = 64,
    levels: int = 2,
    depth: int = 1,
) -> nn.Module:
    """Single-shot detector on a feature pyramid (Lin et al., CVPR 2017), without anchors (FCOS).

    One map a level, finest first, as `hil.tasks.decoding` reads them: `classes` logits and four
    logarithms of distances. The first stage is at half the picture's size; sides must be multiples
    of 2^widths.

    Args:
        in_channels: of the pictures.
        classes: background not counted.
        widths: channels of the backbone's stages.
        blocks: residual blocks a stage.
        width: channels of the pyramid.
        levels: the last so many stages answer.
        depth: convolutions in each tower of a head.
    """
    return _PyramidDetector(in_channels, classes, widths, blocks, width, levels, depth)
