"""The 2-D CNN that a model of time looks at each frame with, chosen by name."""

from typing import Literal, TypeAlias

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.layers.blocks.cnn import FrameTrunk
from vu_jax.layers.blocks.inception import frame_trunk
from vu_jax.layers.blocks.resnet_trunk import DEPTHS, BlockName, ResNetTrunk, trunk_width
from vu_jax.layers.precision import Dtype

Frame: TypeAlias = Literal["small", "resnet18", "resnet34", "resnet50", "resnet101", "inception"]
Stages: TypeAlias = tuple[tuple[int, int], ...]
_RESNET_WIDTH, _INCEPTION_WIDTH = 64, 1024


class FrameFeatures(nn.Module):
  """Maps of each frame alone: `(B T H W C) -> (B T h w D)`.

  The parameters are in `trunk`, named as in the models frame_cnn, resnet and inception, whose weights therefore fit.

  Fields:
    frame: "small" (`cnn.FrameTrunk`, group norm), a ResNet, or "inception" (GoogLeNet); those have batch norm, and maps
      of 1/32 of the size.
    stages: of "small": (channels, spatial stride) of each convolution.
    norm_frozen: batch norm uses its stored statistics in training, too.
    remat: recompute in the backward pass what is inside of each block (of "small": of the trunk).
    dtype: of the computation; parameters are float32.
  """

  frame: Frame
  stages: Stages = ()
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> Float[Array, "B T h w D"]:
    if self.frame == "small":
      trunk = nn.remat(FrameTrunk) if self.remat else FrameTrunk
      return trunk(self.stages, self.dtype, name="trunk")(video)
    if self.frame == "inception":
      inception = frame_trunk(train=train, norm_frozen=self.norm_frozen, remat=self.remat, dtype=self.dtype)
      return inception(video)
    shape = (*_resnet(self.frame), _RESNET_WIDTH)
    resnet = ResNetTrunk(*shape, self.norm_frozen, remat=self.remat, dtype=self.dtype, name="trunk")
    return resnet(video, train=train)

  @property
  def width(self) -> int:
    """D, the channels of the maps."""
    if self.frame == "small":
      return self.stages[-1][0]
    return _INCEPTION_WIDTH if self.frame == "inception" else trunk_width(*_resnet(self.frame), _RESNET_WIDTH)


def _resnet(frame: Frame) -> tuple[BlockName, tuple[int, ...]]:
  return DEPTHS[frame.removeprefix("resnet")]
