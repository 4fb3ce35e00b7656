"""SimVP's translators: 2-D networks over maps whose channels are (frame, channel) of a whole clip, frame-major.

Source: Gao et al. 2022, "SimVP: Simpler yet Better Video Prediction", section 3.2 (IncepU); Tan et al. 2022, "SimVP:
Towards Simple yet Powerful Spatiotemporal Predictive Learning" (gSTA), both in the form of OpenSTL.
"""

import math
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv_modules import Conv2D, Norm
from vu_jax.layers.drop import DropPath
from vu_jax.layers.initial import flat, he_fan_out
from vu_jax.layers.precision import Dtype, cast, multiply

Folded = Float[Array, "B 1 h w C"]
Mixed = Float[Array, "B 1 h w D"]


class GatedAttention(nn.Module):
  """x + W2 (sigmoid(g) f), where f, g = W1 far(near(gelu(W0 x))): a large depthwise window, made of two, gates itself.

  `near` sees 2 dilation - 1 neighbours along each axis, `far` every `dilation`-th of about `window`: 5 and 7 of every
  third position for a window of 21 and dilation 3.

  Source: Guo et al. 2023, "Visual Attention Network", section 3.2 (the decomposition of the window).
  """

  window: int = 21
  dilation: int = 3
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Folded) -> Folded:
    channels = x.shape[-1]
    y = nn.gelu(_pointwise(channels, self.dtype, "expand")(x), approximate=False)
    near, far = 2 * self.dilation - 1, (self.window // self.dilation - 1) // 2 * 2 + 1
    y = _depthwise(channels, near, 1, self.dtype, "near")(y)
    y = _depthwise(channels, far, self.dilation, self.dtype, "far")(y)
    f, g = jnp.split(_pointwise(2 * channels, self.dtype, "gates")(y), 2, axis=-1)
    return x + _pointwise(channels, self.dtype, "project")(nn.sigmoid(g) * f)


class ConvMLP(nn.Module):
  """1x1 to `ratio` times the channels, depthwise 3x3, GELU, 1x1 back."""

  ratio: float
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Folded) -> Folded:
    channels, hidden = x.shape[-1], int(x.shape[-1] * self.ratio)
    y = _pointwise(hidden, self.dtype, "expand")(x)
    y = _depthwise(hidden, 3, 1, self.dtype, "mix")(y)
    return _pointwise(channels, self.dtype, "project")(nn.gelu(y, approximate=False))


class GatedBlock(nn.Module):
  """gSTA: x + s1 attention(norm x), then x + s2 mlp(norm x), then a 1x1 convolution where `features` differ from C.

  Fields:
    features: channels of the result.
    norm: constructor of the normalisation, see `layers.norm`.
    window, dilation: see `GatedAttention`.
    mlp_ratio: hidden channels of the MLP for each of C.
    drop_path: rate of stochastic depth of both branches.
    scale: of both branches (s1, s2, one number per channel) at the start.
  """

  features: int
  norm: Norm
  window: int = 21
  dilation: int = 3
  mlp_ratio: float = 8.0
  drop_path: float = 0.0
  scale: float = 1e-2
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Folded, train: bool) -> Mixed:
    attention = GatedAttention(self.window, self.dilation, self.dtype, name="attention")
    x = x + self._scaled("attention", attention, x, train)
    x = x + self._scaled("mlp", ConvMLP(self.mlp_ratio, self.dtype, name="mlp"), x, train)
    return x if x.shape[-1] == self.features else _pointwise(self.features, self.dtype, "reduction")(x)

  def _scaled(self, name: str, branch: nn.Module, x: Array, train: bool) -> Array:
    scale = self.param(f"{name}_scale", nn.initializers.constant(self.scale), (x.shape[-1],))
    y = multiply(branch(self.norm(name=f"{name}_norm")(x)), scale)
    return DropPath(self.drop_path)(y, train=train)


class GatedTranslator(nn.Module):
  """`blocks` gSTA blocks of `width` channels between a first one that comes from C channels and a last one back to C.

  Fields:
    drop_path: rate of each block.
    remat: recompute each block in the backward pass.
  """

  width: int
  drop_path: Sequence[float]
  norm: Norm
  window: int = 21
  dilation: int = 3
  mlp_ratio: float = 8.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Folded, train: bool) -> Mixed:
    gated = nn.remat(GatedBlock, static_argnums=(2,)) if self.remat else GatedBlock
    options = (self.norm, self.window, self.dilation, self.mlp_ratio)
    (x,) = cast(self.dtype, x)
    channels = x.shape[-1]
    for i, rate in enumerate(self.drop_path):
      features = channels if i == len(self.drop_path) - 1 else self.width
      x = gated(features, *options, rate, dtype=self.dtype, name=f"block{i}")(x, train)
    return x


class GroupedInception(nn.Module):
  """1x1 to `middle` channels, then the sum of grouped kxk convolutions, each with group norm and leaky ReLU (0.2)."""

  middle: int
  features: int
  kernels: Sequence[int] = (3, 5, 7, 11)
  groups: int = 8
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Folded) -> Mixed:
    x = Conv2D(self.middle, (1, 1), dtype=self.dtype, name="squeeze")(x)
    return sum((self._branch(x, k) for k in self.kernels), jnp.zeros((), x.dtype))

  def _branch(self, x: Array, kernel: int) -> Array:
    y = Conv2D(self.features, (kernel, kernel), groups=self.groups, dtype=self.dtype, name=f"conv{kernel}")(x)
    norm = nn.GroupNorm(self.groups, epsilon=1e-5, dtype=self.dtype, name=f"norm{kernel}")
    return nn.leaky_relu(norm(y), 0.2)


class InceptionTranslator(nn.Module):
  """IncepU: `blocks` inception blocks in, as many out, each of which but the first also reads its counterpart's result.

  Raises:
    ValueError: groups that do not divide the channels of all blocks.
  """

  width: int
  blocks: int
  groups: int = 8
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Folded, train: bool) -> Mixed:
    del train  # group norm is the same in training
    inception = nn.remat(GroupedInception) if self.remat else GroupedInception
    block = partial(inception, self.width // 2, groups=self.groups, dtype=self.dtype)
    (x,) = cast(self.dtype, x)
    channels, results = x.shape[-1], []
    for i in range(self.blocks):
      x = block(features=self.width, name=f"encoder{i}")(x)
      results.append(x)
    for i in range(self.blocks):
      x = jnp.concatenate([x, results[-1 - i]], axis=-1) if i else x
      x = block(features=channels if i == self.blocks - 1 else self.width, name=f"decoder{i}")(x)
    return x


def _pointwise(features: int, dtype: Dtype, name: str) -> Conv2D:
  return Conv2D(features, (1, 1), kernel_init=he_fan_out, dtype=dtype, name=name)


def _depthwise(channels: int, kernel: int, dilation: int, dtype: Dtype, name: str) -> Conv2D:
  window, steps = (kernel, kernel), (dilation, dilation)
  init = flat(nn.initializers.normal(math.sqrt(2) / kernel))  # he_fan_out of one channel
  return Conv2D(channels, window, dilation=steps, groups=channels, kernel_init=init, dtype=dtype, name=name)
