"""Convolutions as modules: `conv2d`, `conv3d` and their transposes with parameters, and the factorised 3-D forms."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
from einops import rearrange
from flax.typing import Initializer
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv import conv2d, conv3d, conv_transpose3d
from vu_jax.layers.convolution.window import Padding
from vu_jax.layers.dense import add_bias
from vu_jax.layers.initial import KERNEL
from vu_jax.layers.precision import Dtype, cast

Norm = Callable[..., nn.Module]


class Conv2D(nn.Module):
  """2-D convolution of every frame: `(B T H W C) -> (B T h w features)`.

  Fields: as the arguments of `conv2d`; parameters `kernel (kh kw C/groups D)` and, with `use_bias`, `bias (D)`.
  """

  features: int
  kernel: Sequence[int] = (3, 3)
  strides: Sequence[int] = (1, 1)
  padding: Padding = "SAME"
  dilation: Sequence[int] = (1, 1)
  groups: int = 1
  use_bias: bool = True
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    frames = rearrange(video, "b t h w c -> (b t) h w c")
    frames, kernel = cast(self.dtype, frames, _kernel(self, self.kernel, video.shape[-1], self.groups))
    y = conv2d(frames, kernel, self.strides, self.padding, self.dilation, self.groups)
    return _biased(self, rearrange(y, "(b t) h w d -> b t h w d", b=video.shape[0]))


class Conv3D(nn.Module):
  """3-D convolution: `(B T H W C) -> (B t h w features)`.

  Fields: as the arguments of `conv3d`; parameters `kernel (kt kh kw C/groups D)` and, with `use_bias`, `bias (D)`.
  """

  features: int
  kernel: Sequence[int] = (3, 3, 3)
  strides: Sequence[int] = (1, 1, 1)
  padding: Padding = "SAME"
  dilation: Sequence[int] = (1, 1, 1)
  groups: int = 1
  use_bias: bool = True
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    video, kernel = cast(self.dtype, video, _kernel(self, self.kernel, video.shape[-1], self.groups))
    return _biased(self, conv3d(video, kernel, self.strides, self.padding, self.dilation, self.groups))


class ConvTranspose3D(nn.Module):
  """Transposed 3-D convolution, for decoders: `(B t h w C) -> (B T H W features)`.

  Fields: as the arguments of `conv_transpose3d`; parameters as in `Conv3D`.
  """

  features: int
  kernel: Sequence[int] = (3, 3, 3)
  strides: Sequence[int] = (1, 1, 1)
  padding: Padding = "SAME"
  use_bias: bool = True
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B t h w C"]) -> Float[Array, "B T H W D"]:
    video, kernel = cast(self.dtype, video, _kernel(self, self.kernel, video.shape[-1], 1))
    return _biased(self, conv_transpose3d(video, kernel, self.strides, self.padding))


class DepthwiseConv3D(nn.Module):
  """Every channel with a window of its own: `(B T H W C) -> (B t h w C)`; parameters as in `Conv3D`."""

  kernel: Sequence[int] = (3, 3, 3)
  strides: Sequence[int] = (1, 1, 1)
  padding: Padding = "SAME"
  dilation: Sequence[int] = (1, 1, 1)
  use_bias: bool = True
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w C"]:
    channels = video.shape[-1]
    video, kernel = cast(self.dtype, video, _kernel(self, self.kernel, channels, channels, channels))
    return _biased(self, conv3d(video, kernel, self.strides, self.padding, self.dilation, channels))


def _kernel(module: Any, window: Sequence[int], channels: int, groups: int, features: int | None = None) -> Array:
  shape = (*window, max(channels // groups, 1), features or module.features)
  return module.param("kernel", module.kernel_init, shape)


def _biased(module: Any, y: Array) -> Array:
  return add_bias(module, y) if module.use_bias else y
