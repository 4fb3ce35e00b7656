"""A small 2-D CNN applied to every frame: the shared trunk of the frame models."""

from collections.abc import Sequence

import flax.linen as nn
from einops import rearrange
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv_modules import Conv2D
from vu_jax.layers.precision import Dtype


class FrameStage(nn.Module):
  """Convolution, group norm and ReLU on each frame: `(B T H W C) -> (B T H/stride W/stride features)`.

  Group norm (Wu & He 2018) keeps no running statistics, which makes a clip's features independent of its batch and
  equal in streaming.
  """

  features: int
  kernel: int = 3
  stride: int = 1
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    size, step = (self.kernel, self.kernel), (self.stride, self.stride)
    x = Conv2D(self.features, size, step, use_bias=False, dtype=self.dtype, name="conv")(video)
    x = rearrange(x, "b t h w c -> (b t) h w c")
    # The statistics are float32 whatever the dtype: flax computes them so.
    x = nn.GroupNorm(num_groups=None, group_size=norm_group(self.features), dtype=self.dtype, name="norm")(x)
    return rearrange(nn.relu(x), "(b t) h w d -> b t h w d", b=video.shape[0])


class FrameTrunk(nn.Module):
  """Stacked `FrameStage`s, one per (features, stride) of `stages`; the first kernel is 5x5, the others 3x3."""

  stages: Sequence[tuple[int, int]]
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    x = video
    for i, (features, stride) in enumerate(self.stages):
      x = FrameStage(features, 5 if i == 0 else 3, stride, self.dtype, name=f"stage{i}")(x)
    return x


def norm_group(features: int) -> int:
  """Channels per normalised group: 4 where that divides, else all of them."""
  return 4 if features % 4 == 0 else features
