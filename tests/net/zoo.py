"""Networks as others write them, for the tracer to be tried on; nothing in `hil` knows of them.

Small versions of published designs, with the constructs these are usually written with.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def conv(c_in, c_out, kernel=3, stride=1, groups=1, act=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        act(),
    )


class BasicBlock(nn.Module):
    """He et al. 2016."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += identity
        return functional.relu(out, inplace=True)


class CifarResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16)
        self.stages = nn.Sequential(
            BasicBlock(16, 16, 1),
            BasicBlock(16, 16, 1),
            BasicBlock(16, 32, 2),
            BasicBlock(32, 32, 1),
            BasicBlock(32, 64, 2),
            BasicBlock(64, 64, 1),
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stages(self.stem(x))
        x = functional.avg_pool2d(x, x.size()[3])
        return self.fc(x.view(x.size(0), -1))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018."""

    def __init__(self, c_in, c_out, stride, expand, kernel=3):
        super().__init__()
        hidden = c_in * expand
        self.use_res = stride == 1 and c_in == c_out
        layers = [] if expand == 1 else [conv(c_in, hidden, 1, act=nn.ReLU6)]
        layers += [
            conv(hidden, hidden, kernel, stride, groups=hidden, act=nn.ReLU6),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv(x) if self.use_res else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv(3, 16, stride=2, act=nn.ReLU6),
            InvertedResidual(16, 8, 1, 1),
            InvertedResidual(8, 16, 2, 4, kernel=5),
            InvertedResidual(16, 16, 1, 4),
            InvertedResidual(16, 24, 2, 6),
            InvertedResidual(24, 24, 1, 6, kernel=5),
            conv(24, 96, 1, act=nn.ReLU6),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(96, 7))

    def forward(self, x):
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class DoubleConv(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.layers = nn.Sequential(conv(c_in, c_out), conv(c_out, c_out))

    def forward(self, x):
        return self.layers(x)


class UNet(nn.Module):
    """Ronneberger et al. 2015, with padding."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([DoubleConv(3, 8), DoubleConv(8, 16), DoubleConv(16, 32)])
        self.bottom = DoubleConv(32, 64)
        widths = (64, 32, 16)
        self.up = nn.ModuleList([nn.ConvTranspose2d(w, w // 2, 2, stride=2) for w in widths])
        self.dec = nn.ModuleList([DoubleConv(w, w // 2) for w in widths])
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, dec, skip in zip(self.up, self.dec, reversed(skips), strict=True):
            x = dec(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


class ResidualConvUnit(nn.Module):
    """Lin et al. 2017."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv2(functional.relu(self.conv1(functional.relu(x)))) + x


class ChainedPool(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])

    def forward(self, x):
        path = x
        for layer in self.convs:
            path = layer(self.pool(path))
            x = x + path
        return x


class RefineNet(nn.Module):
    """A segmenter that refines from coarse to fine by sums of upsampled maps."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        self.layers = nn.ModuleList([BasicBlock(16, 16, 1), BasicBlock(16, 32, 2)])
        self.last = nn.Sequential(BasicBlock(32, 48, 2), conv(48, 48, 7))
        self.reduce = nn.ModuleList([nn.Conv2d(w, 24, 1) for w in (16, 32, 48)])
        self.units = nn.ModuleList([ResidualConvUnit(24) for _ in range(3)])
        self.fuse = nn.ModuleList([nn.Conv2d(24, 24, 3, padding=1) for _ in range(2)])
        self.chain = ChainedPool(24)
        self.classify = nn.Conv2d(24, 5, 3, padding=1)

    def forward(self, x):
        size = x.shape[2:]
        features = [self.layers[0](self.stem(x))]
        features.append(self.layers[1](features[-1]))
        features.append(self.last(features[-1]))
        path = self.units[2](self.reduce[2](features[2]))
        for i in (1, 0):
            fine = self.units[i](self.reduce[i](features[i]))
            coarse = functional.interpolate(
                self.fuse[i](path), size=fine.shape[-2:], mode="bilinear", align_corners=False
            )
            path = self.chain(functional.relu(fine + coarse))
        logits = self.classify(path)
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class Detector(nn.Module):
    """Single-shot detection (Liu et al. 2016) on a feature pyramid (Lin et al. 2017)."""

    classes, anchors = 3, 2

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        self.stages = nn.ModuleList([conv(16, 24, stride=2), conv(24, 32, stride=2)])
        self.extra = conv(32, 32, stride=2)
        self.lateral = nn.ModuleList([nn.Conv2d(w, 16, 1) for w in (24, 32, 32)])
        self.smooth = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)])
        self.tower = nn.Sequential(conv(16, 16), conv(16, 16, 5, groups=16))
        self.score = nn.ModuleList(
            [nn.Conv2d(16, self.classes * self.anchors, 3, padding=1) for _ in range(3)]
        )
        self.box = nn.ModuleList([nn.Conv2d(16, 4 * self.anchors, 3, padding=1) for _ in range(3)])

    def forward(self, x):
        levels = [self.stages[0](self.stem(x))]
        levels.append(self.stages[1](levels[0]))
        levels.append(self.extra(levels[1]))
        merged = [layer(level) for layer, level in zip(self.lateral, levels, strict=True)]
        for i in (1, 0):
            merged[i] = merged[i] + functional.interpolate(merged[i + 1], scale_factor=2.0)
        scores, boxes = [], []
        for i, level in enumerate(merged):
            feature = self.tower(self.smooth[i](level))  # one tower, shared by all levels
            score, box = self.score[i](feature), self.box[i](feature)
            scores.append(score.permute(0, 2, 3, 1).reshape(x.size(0), -1, self.classes))
            boxes.append(box.permute(0, 2, 3, 1).reshape(x.size(0), -1, 4))
        return {"scores": torch.cat(scores, 1), "boxes": torch.cat(boxes, 1)}


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018) in the two ways it is usually written."""

    def __init__(self, width, squeezed, linear):
        super().__init__()
        self.linear = linear
        if linear:
            self.reduce, self.expand = nn.Linear(width, squeezed), nn.Linear(squeezed, width)
        else:
            self.reduce = nn.Conv2d(width, squeezed, 1)
            self.expand = nn.Conv2d(squeezed, width, 1)

    def forward(self, x):
        if self.linear:
            b, c, _, _ = x.shape
            y = functional.adaptive_avg_pool2d(x, 1).view(b, c)
            y = torch.sigmoid(self.expand(functional.silu(self.reduce(y))))
            return x * y.view(b, c, 1, 1).expand_as(x)
        y = x.mean((2, 3), keepdim=True)
        return functional.hardsigmoid(self.expand(functional.relu(self.reduce(y)))) * x


class Foreign(nn.Module):
    """Skips, concatenation, grouped and depthwise convolutions, gates, splits, two outputs."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 24, 5, 2, act=nn.Hardswish)
        self.left = conv(24, 32, groups=4, act=nn.LeakyReLU)  # groups tied by position
        self.right = conv(24, 24, groups=12)  # pairs that go as a whole
        self.wide = nn.Conv2d(24, 48, 3, padding=1, groups=24)  # depthwise, two filters a channel
        self.act = nn.PReLU(48)
        self.gate1 = Gate(104, 16, linear=True)
        self.mix = conv(104, 40, 1, act=nn.SiLU)
        self.norm = nn.GroupNorm(4, 40)
        self.split_a, self.split_b = conv(12, 16), conv(28, 16, 1)
        self.gate2 = Gate(32, 8, linear=False)
        self.up = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.up_each = nn.ConvTranspose2d(16, 16, 2, stride=2, groups=16, bias=False)
        self.inorm = nn.InstanceNorm2d(16, affine=True)
        self.halves = nn.Conv2d(16, 32, 3, padding=1)
        self.dense = nn.Conv2d(16, 4, 1)
        self.squash = nn.Conv2d(32, 6, 3, padding=1)
        self.hidden = nn.Linear(6 * 8 * 8, 20)
        self.label = nn.Linear(20, 5)

    def forward(self, x):
        x = self.stem(x)
        y = torch.cat((self.left(x), self.act(self.wide(x)), self.right(x)), dim=1)
        y = functional.max_pool2d(self.gate1(y), 2)
        y = self.norm(self.mix(y))
        a, b = torch.split(y, [12, 28], dim=1)
        z = self.gate2(torch.cat([self.split_a(a), self.split_b(b)], 1))
        up = functional.relu6(self.inorm(self.up_each(self.up(z))))
        one, two = self.halves(up).chunk(2, dim=1)
        dense = self.dense(torch.tanh(one) * torch.sigmoid(two) + up)
        flat = functional.dropout(self.squash(z), 0.1, self.training).view(-1, 6 * 8 * 8)
        return dense, [self.label(functional.hardswish(self.hidden(flat)))]


class ShapeMinded(nn.Module):
    """Python that looks at shapes, which torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.enc1, self.enc2 = conv(3, 16), conv(16, 32, stride=2)
        self.body = nn.ModuleList([conv(32, 32), conv(32, 32, 5, groups=32)])
        self.dec = conv(48, 24, act=nn.SiLU)
        self.head = nn.Conv2d(24, 3, 1)
        self.pre, self.aux = nn.Dropout(0.1), nn.Linear(32 * 4 * 4, 6)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(a)
        for i in range(len(self.body)):
            if b.shape[1] == self.body[i][0].in_channels:
                b = b + self.body[i](b)
        if b.shape[-2:] != a.shape[-2:]:
            up = functional.interpolate(b, size=a.shape[-2:], mode="bilinear", align_corners=False)
        else:
            up = b
        dense = self.head(self.dec(torch.cat([a, up], dim=1)))
        pooled = functional.adaptive_avg_pool2d(b, 4)
        assert pooled.shape[2] == 4
        return {"dense": dense, "aux": self.aux(self.pre(pooled.flatten(1)))}


ZOO = {
    "cifar_resnet": CifarResNet,
    "mobilenet_v2": MobileNetV2,
    "unet": UNet,
    "refinenet": RefineNet,
    "detector": Detector,
    "foreign": Foreign,
    "shape_minded": ShapeMinded,
}
SIDE = 32


def make(name):
    """The named network in evaluation mode, with norms that do something."""
    torch.manual_seed(0)
    model = ZOO[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def pictures(count=2):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
