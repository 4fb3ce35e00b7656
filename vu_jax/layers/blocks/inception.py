"""Inception-v1 on video: its table of channels, its block of four branches, and the trunk that they make.

One trunk serves GoogLeNet on frames, I3D and S3D: they differ in how a 3x3 convolution looks into time, in padding, in
normalisation and in gates, which is what a `Style` holds.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.layers.convolution.conv_modules import Conv3D, Norm
from vu_jax.layers.convolution.factorised import SeparableConv3D
from vu_jax.layers.convolution.pool import avg_pool, ceil_padding, max_pool
from vu_jax.layers.convolution.window import Padding
from vu_jax.layers.dense import add_bias
from vu_jax.layers.gates import SelfGating, global_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

Kind: TypeAlias = Literal["spatial", "full", "separable"]
Gate: TypeAlias = Literal["none", "plain", "bias"]
Blocks: TypeAlias = tuple[int, int, int]


class Widths(NamedTuple):
  """Channels of a mixed block: of its four branches, and of what narrows the input of two of them."""

  point: int
  narrow_three: int
  three: int
  narrow_five: int
  five: int
  pool: int


STAGES: tuple[dict[str, Widths], ...] = (
  {
    "3b": Widths(64, 96, 128, 16, 32, 32),
    "3c": Widths(128, 128, 192, 32, 96, 64),
  },
  {
    "4b": Widths(192, 96, 208, 16, 48, 64),
    "4c": Widths(160, 112, 224, 24, 64, 64),
    "4d": Widths(128, 128, 256, 24, 64, 64),
    "4e": Widths(112, 144, 288, 32, 64, 64),
    "4f": Widths(256, 160, 320, 32, 128, 128),
  },
  {
    "5b": Widths(256, 160, 320, 32, 128, 128),
    "5c": Widths(384, 192, 384, 48, 128, 128),
  },
)
ALL_BLOCKS: Blocks = (2, 5, 2)


@dataclass(frozen=True)
class Style:
  """What all convolutions and pools of one network have in common.

  Fields:
    kind: what a window of 3x3 is: "spatial" sees one frame, "full" is 3x3x3, "separable" is 1x3x3, norm, ReLU, 3x1x1.
    norm: makes the normalisation behind every convolution.
    padding: "symmetric" as in torch; "ceil" the same for convolutions, while pools pad nothing and take what is left
      over at the end (torch's `ceil_mode`); "same" puts the odd position behind, as in TensorFlow.
    gate: of the channels of every branch and of the last convolution before the blocks; "plain" has no bias.
    temporal_norm: of separable convolutions, whether a norm follows the temporal part, or just a bias.
    width: factor of all channels.
    dtype: of the computation.
  """

  kind: Kind
  norm: Norm
  padding: Literal["symmetric", "ceil", "same"]
  gate: Gate = "none"
  temporal_norm: bool = True
  width: float = 1.0
  dtype: Dtype = "float32"

  def channels(self, published: int) -> int:
    return max(1, round(published * self.width))


class Unit(nn.Module):
  """Convolution of the style's kind, norm, ReLU, gate: `(B T H W C) -> (B t h w features * width)`.

  Fields:
    features: channels before the style's factor.
    size, frames: of the window in space and time.
    stride: along height and width, and along time unless the kind is "spatial".
    gated: whether the style's gate follows.
  """

  features: int
  style: Style
  size: int = 1
  frames: int = 1
  stride: int = 1
  gated: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    style, separable = self.style, self.style.kind == "separable" and self.frames > 1
    features, frames = style.channels(self.features), 1 if style.kind == "spatial" else self.frames
    kernel = (frames, self.size, self.size)
    strides = (1 if style.kind == "spatial" else self.stride, self.stride, self.stride)
    padding: Padding = "SAME" if style.padding == "same" else [k // 2 for k in kernel]
    shape = (features, kernel, strides, padding)
    if separable:
      x = SeparableConv3D(*shape, norm=style.norm, dtype=style.dtype, name="conv")(x)
    else:
      x = Conv3D(*shape, use_bias=False, dtype=style.dtype, name="conv")(x)
    x = add_bias(self, x) if separable and not style.temporal_norm else style.norm(name="norm")(x)
    x = nn.relu(x)
    if self.gated and style.gate != "none":
      x = SelfGating(use_bias=style.gate == "bias", dtype=style.dtype, name="gating")(x)
    return x


class Mixed(nn.Module):
  """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and 3x3; 3x3 maximum and 1x1.

  `(B T H W C) -> (B T H W D)`, with D the sum of the branches' channels.

  Source: Szegedy et al. 2015, "Going deeper with convolutions", figure 2b; Xie et al. 2018, "Rethinking
    spatiotemporal feature learning", on feature gating.
  Differs from the paper: 3x3 in the third branch where it has 5x5, as in TensorFlow's and torchvision's Inception-v1
    and hence in I3D and S3D.
  """

  widths: Widths
  style: Style

  @nn.compact
  def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W D"]:
    n, style = self.widths, self.style
    point = Unit(n.point, style, gated=True, name="point")(x)
    three = Unit(n.narrow_three, style, name="narrow_three")(x)
    three = Unit(n.three, style, size=3, frames=3, gated=True, name="three")(three)
    five = Unit(n.narrow_five, style, name="narrow_five")(x)
    five = Unit(n.five, style, size=3, frames=3, gated=True, name="five")(five)
    pool = max_pool(x, (1 if style.kind == "spatial" else 3, 3, 3), (1, 1, 1), "SAME")
    pool = Unit(n.pool, style, gated=True, name="pool")(pool)
    return jnp.concatenate([point, three, five, pool], axis=-1)


class InceptionTrunk(nn.Module):
  """Inception-v1 without its head: `(B T H W C) -> (B t h w D)`, any size.

  Height and width shrink to about 1/32 (224 px to 7), time to 1/8 unless the kind is "spatial"; with all blocks and
  width 1, D is 1024. A map that is smaller than the window of a pool is pooled whole, so small clips fit, too.

  Fields:
    style: how it looks into time, pads, normalises.
    stem_kind, stem_frames: of the first convolution, 7x7 in space; its frames count for kinds with time.
    blocks: mixed blocks before, between and behind the last two pools, at most (2, 5, 2); fewer = the first ones.
    remat: compute each block once more in the backward pass instead of storing what is inside of it.

  Raises:
    UserError: more blocks than there are.

  Source: Szegedy et al. 2015, table 1; Carreira & Zisserman 2017, "Quo vadis, action recognition?", figure 3.
  """

  style: Style
  stem_kind: Kind
  stem_frames: int = 7
  blocks: Blocks = ALL_BLOCKS
  remat: bool = False

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    if any(n > most for n, most in zip(self.blocks, ALL_BLOCKS, strict=True)):
      raise UserError(f"blocks = {self.blocks}: at most {ALL_BLOCKS}, the blocks of Inception-v1")
    style, frames = self.style, 1 if self.style.kind == "spatial" else 3
    stem = dataclasses.replace(style, kind=self.stem_kind)
    x = Unit(64, stem, size=7, frames=self.stem_frames, stride=2, name="stem")(video)
    x = _halved(x, (1, 3, 3), style)
    x = Unit(64, style, name="point")(x)
    x = Unit(192, style, size=3, frames=3, gated=True, name="three")(x)
    x = _halved(x, (1, 3, 3), style)
    block = nn.remat(Mixed) if self.remat else Mixed
    for stage, count, window in zip(STAGES, self.blocks, (None, (frames, 3, 3), (min(frames, 2), 2, 2)), strict=True):
      x = _halved(x, window, style) if window else x
      for name in list(stage)[:count]:
        x = block(stage[name], style, name=f"mixed_{name}")(x)
    return x


def frame_trunk(
  *,
  train: bool,
  norm_frozen: bool = False,
  width: float = 1.0,
  blocks: Blocks = ALL_BLOCKS,
  remat: bool = False,
  dtype: Dtype = "float32",
) -> InceptionTrunk:
  """GoogLeNet on every frame, as torchvision has it: no time, batch norm (epsilon 1e-3), pools that take the rest.

  For the model "inception" and for models of time that look at each frame with it; its parameters are in `trunk`.
  """
  norm = batch_norm(train=train, frozen=norm_frozen, epsilon=1e-3, dtype=dtype)
  style = Style("spatial", norm, "ceil", width=width, dtype=dtype)
  return InceptionTrunk(style, "spatial", 1, blocks, remat, name="trunk")


def sliding_mean(tokens: Float[Array, "B t h w D"]) -> Float[Array, "B D"]:
  """The mean of the means over windows of 2x7x7 positions at stride 1, in float32; tokens at the ends weigh less.

  Equal to the published head, which maps every window to logits and averages those: the map is linear. Windows are cut
  to the grid where it is smaller. Source: kinetics-i3d and torchvision (code).
  """
  window = [min(k, n) for k, n in zip((2, 7, 7), tokens.shape[1:4], strict=True)]
  return global_mean(avg_pool(tokens.astype(jnp.float32), window, (1, 1, 1)))


def _halved(x: Array, window: tuple[int, int, int], style: Style) -> Array:
  """Maxima at stride 2 along the axes on which the window has more than one position."""
  size = x.shape[1:4]
  cut = [min(k, n) for k, n in zip(window, size, strict=True)]
  strides = [2 if k > 1 else 1 for k in cut]
  padding: Padding = [(k - 1) // 2 for k in cut]
  if style.padding != "symmetric":
    padding = "SAME" if style.padding == "same" else ceil_padding(size, cut, strides)
  return max_pool(x, cut, strides, padding)
