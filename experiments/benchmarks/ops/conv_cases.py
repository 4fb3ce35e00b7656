"""Convolutions of the models, at the sizes that they have there, on one or two clips."""

import math
from functools import partial

from experiments.benchmarks.ops.case import OpCase, Shape, conv_case

_conv = partial(conv_case, kind="convolution")
_point = partial(conv_case, kind="pointwise and temporal")
_group = partial(conv_case, kind="depthwise and grouped")

CONVOLUTIONS = (
  _conv("stem 3x7x7 /1,2,2", x=(2, 8, 112, 112, 3), kernel=(3, 7, 7), features=64, strides=(1, 2, 2)),
  _conv("stem 1x7x7 /1,2,2", x=(2, 8, 112, 112, 3), kernel=(1, 7, 7), features=64, strides=(1, 2, 2)),
  _conv("r2plus1d stem 1x7x7 /1,2,2", x=(1, 4, 112, 112, 3), kernel=(1, 7, 7), features=45, strides=(1, 2, 2)),
  _conv("slowfast fast stem 5x7x7 /1,2,2", x=(1, 4, 112, 112, 3), kernel=(5, 7, 7), features=8, strides=(1, 2, 2)),
  _conv("i3d stem 7x7x7 /2", x=(1, 8, 56, 56, 3), kernel=(7, 7, 7), features=64, strides=(2, 2, 2)),
  _conv("x3d stem 1x3x3 /1,2,2", x=(1, 16, 112, 112, 3), kernel=(1, 3, 3), features=24, strides=(1, 2, 2)),
  _conv("c3d conv1 3x3x3", x=(1, 8, 56, 56, 3), kernel=(3, 3, 3), features=64),
  _conv("c3d conv2 3x3x3", x=(1, 8, 28, 28, 64), kernel=(3, 3, 3), features=128),
  _conv("c3d conv5 3x3x3", x=(2, 2, 7, 7, 512), kernel=(3, 3, 3), features=512),
  _conv("r3d layer1 3x3x3", x=(2, 8, 28, 28, 64), kernel=(3, 3, 3), features=64),
  _conv("r3d layer3 3x3x3 /2", x=(2, 4, 28, 28, 128), kernel=(3, 3, 3), features=256, strides=(2, 2, 2)),
  _conv("layer1 1x3x3", x=(2, 8, 28, 28, 64), kernel=(1, 3, 3), features=64),
  _conv("r2plus1d layer1 1x3x3", x=(1, 8, 56, 56, 64), kernel=(1, 3, 3), features=144),
  _conv("r2plus1d layer2 1x3x3 /1,2,2", x=(1, 8, 56, 56, 64), kernel=(1, 3, 3), features=230, strides=(1, 2, 2)),
  _conv("r2plus1d layer4 1x3x3", x=(2, 2, 7, 7, 512), kernel=(1, 3, 3), features=1152),
  _conv("s3d sep 1x3x3", x=(1, 8, 56, 56, 64), kernel=(1, 3, 3), features=192),
  _conv("s3d mixed 5b 1x3x3", x=(2, 2, 7, 7, 160), kernel=(1, 3, 3), features=320),
  _conv("slowfast fast res3 1x3x3", x=(1, 32, 28, 28, 16), kernel=(1, 3, 3), features=16),
  _conv("resnet conv1 7x7 /2", x=(8, 112, 112, 3), kernel=(7, 7), features=64, strides=(2, 2)),
  _conv("resnet layer1 3x3", x=(8, 56, 56, 64), kernel=(3, 3), features=64),
  _conv("resnet layer3 3x3 /2", x=(8, 28, 28, 256), kernel=(3, 3), features=256, strides=(2, 2)),
)

POINTWISE = (
  _point("temporal 3x1x1", x=(2, 8, 28, 28, 64), kernel=(3, 1, 1), features=64),
  _point("r2plus1d stem 3x1x1", x=(1, 8, 56, 56, 45), kernel=(3, 1, 1), features=64),
  _point("r2plus1d layer1 3x1x1", x=(1, 8, 56, 56, 144), kernel=(3, 1, 1), features=64),
  _point("r2plus1d layer2 3x1x1 /2,1,1", x=(1, 8, 28, 28, 230), kernel=(3, 1, 1), features=128, strides=(2, 1, 1)),
  _point("r2plus1d layer4 3x1x1", x=(2, 2, 7, 7, 1152), kernel=(3, 1, 1), features=512),
  _point("s3d stem 7x1x1 /2,1,1", x=(1, 16, 56, 56, 64), kernel=(7, 1, 1), features=64, strides=(2, 1, 1)),
  _point("s3d sep 3x1x1", x=(1, 8, 28, 28, 192), kernel=(3, 1, 1), features=192),
  _point("s3d stem 1x1x1", x=(1, 8, 56, 56, 64), kernel=(1, 1, 1), features=64),
  _point("s3d mixed 4b 1x1x1", x=(2, 4, 14, 14, 480), kernel=(1, 1, 1), features=192),
  _point("slowfast fusion 7x1x1 /4,1,1", x=(1, 32, 56, 56, 8), kernel=(7, 1, 1), features=16, strides=(4, 1, 1)),
  _point("slowfast res4 3x1x1", x=(1, 8, 14, 14, 1024), kernel=(3, 1, 1), features=256),
  _point("slowfast fast res3 3x1x1", x=(1, 32, 28, 28, 64), kernel=(3, 1, 1), features=16),
  _point("x3d res2 1x1x1", x=(1, 16, 56, 56, 24), kernel=(1, 1, 1), features=54),
  _point("r3d downsample 1x1x1 /2", x=(1, 8, 56, 56, 64), kernel=(1, 1, 1), features=128, strides=(2, 2, 2)),
  _point("resnet layer2 1x1", x=(8, 28, 28, 512), kernel=(1, 1), features=128),
  _point("resnet downsample 1x1 /2", x=(8, 28, 28, 256), kernel=(1, 1), features=512, strides=(2, 2)),
  _point(
    "tcn causal 3x1x1 dilated 2",
    x=(1, 32, 28, 28, 64),
    kernel=(3, 1, 1),
    features=64,
    padding=((4, 0), (0, 0), (0, 0)),
    dilation=(2, 1, 1),
  ),
)

GROUPED = (
  _group("depthwise 3x3x3", x=(2, 8, 28, 28, 96), kernel=(3, 3, 3), features=96, groups=96),
  _group("x3d stem 5x1x1", x=(1, 16, 56, 56, 24), kernel=(5, 1, 1), features=24, groups=24),
  _group(
    "x3d res2 3x3x3 /1,2,2",
    x=(1, 16, 56, 56, 54),
    kernel=(3, 3, 3),
    features=54,
    strides=(1, 2, 2),
    groups=54,
  ),
  _group("x3d res3 3x3x3", x=(1, 16, 28, 28, 108), kernel=(3, 3, 3), features=108, groups=108),
  _group("x3d res5 3x3x3", x=(2, 16, 7, 7, 432), kernel=(3, 3, 3), features=432, groups=432),
  _group("csn layer1 3x3x3", x=(1, 8, 56, 56, 64), kernel=(3, 3, 3), features=64, groups=64),
  _group("csn layer3 3x3x3 /2", x=(2, 8, 28, 28, 256), kernel=(3, 3, 3), features=256, strides=(2, 2, 2), groups=256),
  _group("simvp gsta 5x5", x=(8, 16, 16, 512), kernel=(5, 5), features=512, groups=512),
  _group(
    "simvp gsta 7x7 dilated 3",
    x=(8, 16, 16, 512),
    kernel=(7, 7),
    features=512,
    padding=(9, 9),
    dilation=(3, 3),
    groups=512,
  ),
  _group("simvp incepu 5x5 in 8 groups", x=(4, 16, 16, 256), kernel=(5, 5), features=256, groups=8),
)


def transposed_case(name: str, x: Shape, kernel: Shape, features: int, strides: Shape, padding: Shape) -> OpCase:
  """A transposed convolution: every input position is multiplied with every kernel position."""
  inputs = {"x": x, "kernel": (*kernel, x[-1], features)}
  flops = 2 * math.prod(x[:-1]) * math.prod(inputs["kernel"])
  op = f"conv_transpose{len(kernel)}d"
  return OpCase(name, "transposed", op, inputs, {"strides": strides, "padding": padding}, flops)


TRANSPOSED = (
  transposed_case("decoder 4x4 /2", (8, 14, 14, 128), (4, 4), 64, (2, 2), (1, 1)),
  transposed_case("simvp decoder 3x3 /2", (8, 32, 32, 64), (3, 3), 64, (2, 2), (1, 1)),
  transposed_case("decoder 3x4x4 /1,2,2", (1, 8, 28, 28, 64), (3, 4, 4), 32, (1, 2, 2), (1, 1, 1)),
  transposed_case("unet 2x2x2 /2", (1, 4, 28, 28, 128), (2, 2, 2), 64, (2, 2, 2), (0, 0, 0)),
)
