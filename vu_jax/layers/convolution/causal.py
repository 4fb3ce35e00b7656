"""Convolutions that see no later frame, and that can be continued: their state is the frames which they still need."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv import conv3d
from vu_jax.layers.convolution.conv_modules import Conv3D
from vu_jax.layers.dense import add_bias
from vu_jax.layers.drop import Dropout
from vu_jax.layers.initial import KERNEL
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype, cast

CausalNorm: TypeAlias = Literal["weight", "layer"]


class CausalConv3D(nn.Module):
  """Convolution of each frame with those before it: `(B T h w C) -> (B T h w features)`, frames before the first zero.

  Fields:
    features: D.
    kernel: (kt, kh, kw); height and width are padded to keep their size.
    dilation: frames between taps.
    weight_norm: kernel = scale * v / |v|, with one scale per output channel (Salimans & Kingma 2016, "Weight
      Normalization", equation 2); the scale starts at |v|, so it changes nothing at the start.
    dtype: of the computation; parameters are float32.

  Source: van den Oord et al. 2016, "WaveNet", section 2.1; the state is the stream buffer of Kondratyuk et al. 2021,
  "MoViNets", section 3.2, which begins with zeros.
  """

  features: int
  kernel: Sequence[int] = (3, 1, 1)
  dilation: int = 1
  weight_norm: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T h w C"], past: Float[Array, "B P h w C"]
  ) -> tuple[Float[Array, "B T h w D"], Float[Array, "B P h w C"]]:
    """The outputs of the next frames, and the last P = (kt - 1) dilation inputs for those after them."""
    kernel = self.param("kernel", KERNEL, (*self.kernel, x.shape[-1], self.features))
    if self.weight_norm:
      length = jnp.linalg.norm(kernel.reshape(-1, self.features), axis=0)
      kernel = kernel / length * self.param("scale", lambda _: jax.lax.stop_gradient(length))
    past, x, kernel = cast(self.dtype, past, x, kernel)
    seen = jnp.concatenate([past, x], axis=1)
    pads = [(0, 0), *(((k - 1) // 2, k // 2) for k in self.kernel[1:])]
    y = conv3d(seen, kernel, padding=pads, dilation=(self.dilation, 1, 1))
    return add_bias(self, y), seen[:, x.shape[1] :]

  @nn.nowrap
  def zero_past(self, batch: int, height: int, width: int, channels: int) -> Float[Array, "B P h w C"]:
    """What is before the first frame; `channels` are the input's."""
    frames = (self.kernel[0] - 1) * self.dilation
    return jnp.zeros((batch, frames, height, width, channels), self.dtype)


class Pasts(NamedTuple):
  """State of a `CausalBlock`: what its two convolutions still need, (B P h w C) and (B P h w D)."""

  first: Any
  second: Any


class CausalBlock(nn.Module):
  """relu(x + F(x)), F = (causal convolution in time, norm, ReLU, dropout) twice: `(B T h w C) -> (B T h w D)`.

  x goes through a 1x1x1 convolution where its channels are not D.

  Fields:
    features: D.
    kernel: frames of each convolution.
    dilation: frames between taps.
    norm: "weight" (of the kernels), or "layer" (over the channels of each frame and position).
    dropout: share of whole channels dropped in training, for all frames of a clip alike.
    dtype: of the computation; parameters are float32.

  Source: Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
  Modeling", figure 1b. Differs from the paper: "layer" is ours. Batch norm would mix statistics of frames to come into
  each one in training, so it is not offered.
  """

  features: int
  kernel: int = 3
  dilation: int = 1
  norm: CausalNorm = "weight"
  dropout: float = 0.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T h w C"], pasts: Pasts, *, train: bool
  ) -> tuple[Float[Array, "B T h w D"], Pasts]:
    y, ends = x, []
    for k, past in enumerate(pasts):
      y, end = CausalConv3D(*self._shape(), name=f"conv{k}")(y, past)
      y = layer_norm(dtype=self.dtype)(name=f"norm{k}")(y) if self.norm == "layer" else y
      y = Dropout(self.dropout, broadcast_dims=(1,), deterministic=not train)(nn.relu(y))
      ends.append(end)
    if x.shape[-1] != self.features:
      x = Conv3D(self.features, (1, 1, 1), dtype=self.dtype, name="shortcut")(x)
    return nn.relu(x.astype(self.dtype) + y), Pasts(*ends)

  @nn.nowrap
  def zero_pasts(self, batch: int, height: int, width: int, channels: int) -> Pasts:
    """The state before the first frame; `channels` are the input's."""
    conv = CausalConv3D(*self._shape(), parent=None)
    return Pasts(*(conv.zero_past(batch, height, width, c) for c in (channels, self.features)))

  @nn.nowrap
  def _shape(self) -> tuple[int, tuple[int, int, int], int, bool, Dtype]:
    return self.features, (self.kernel, 1, 1), self.dilation, self.norm == "weight", self.dtype


def receptive_field(kernel: int, dilations: Sequence[int]) -> int:
  """Frames that one output of stacked `CausalBlock`s sees, itself included: 1 + 2 (kernel - 1) sum of dilations."""
  return 1 + 2 * (kernel - 1) * sum(dilations)
