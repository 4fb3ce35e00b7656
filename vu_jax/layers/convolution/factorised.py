"""Factorised 3-D convolution: one 3-D window as two cheaper ones with a normalisation and ReLU between.

All take `norm`, a constructor such as `norm.batch_norm(train=train)`; `None` leaves
normalisation out. The two convolutions then have no bias, since the normalisation behind each has one.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv_modules import KERNEL, Conv3D, DepthwiseConv3D, Norm
from vu_jax.layers.convolution.window import Padding
from vu_jax.layers.precision import Dtype


class Conv2Plus1D(nn.Module):
  """Spatial (1 k k), norm, ReLU, temporal (k 1 1): `(B T H W C) -> (B t h w features)`; R(2+1)D's convolution.

  The number of channels in the middle keeps the parameters of the full 3-D kernel unless `middle` is given.
  Source: Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions", section 3.5.
  """

  features: int
  kernel: Sequence[int] = (3, 3, 3)
  strides: Sequence[int] = (1, 1, 1)
  padding: Padding = "SAME"
  middle: int | None = None
  norm: Norm | None = None
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    middle = self.middle or middle_channels(self.kernel, video.shape[-1], self.features)
    return _two(self, video, middle)


class SeparableConv3D(nn.Module):
  """Spatial (1 k k), norm, ReLU, temporal (k 1 1), with `features` channels in the middle: S3D's convolution.

  Source: Xie et al. 2018, "Rethinking Spatiotemporal Feature Learning", section 3.
  """

  features: int
  kernel: Sequence[int] = (3, 3, 3)
  strides: Sequence[int] = (1, 1, 1)
  padding: Padding = "SAME"
  norm: Norm | None = None
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    return _two(self, video, self.features)


class ChannelSeparatedConv3D(nn.Module):
  """Depthwise (k k k), norm, pointwise (1 1 1): `(B T H W C) -> (B t h w features)`.

  Interactions between channels and between positions are separate layers.
  Source: Tran et al. 2019, "Video Classification with Channel-Separated Convolutional Networks", section 3.
  """

  features: int
  kernel: Sequence[int] = (3, 3, 3)
  strides: Sequence[int] = (1, 1, 1)
  padding: Padding = "SAME"
  norm: Norm | None = None
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    bias = self.norm is None
    x = DepthwiseConv3D(
      self.kernel,
      self.strides,
      self.padding,
      use_bias=bias,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name="depthwise",
    )(video)
    if self.norm is not None:
      x = self.norm(name="norm")(x)
    return Conv3D(
      self.features, (1, 1, 1), use_bias=bias, kernel_init=self.kernel_init, dtype=self.dtype, name="pointwise"
    )(x)


def middle_channels(kernel: Sequence[int], channels: int, features: int) -> int:
  """Channels between the two parts that give both together the parameters of the full kernel (rounded down).

  kt kh kw C D / (kh kw C + kt D). Source: Tran et al. 2018, section 3.5.
  """
  time, space = kernel[0], kernel[1] * kernel[2]
  return time * space * channels * features // (space * channels + time * features)


def _two(module: Conv2Plus1D | SeparableConv3D, video: Array, middle: int) -> Array:
  """The spatial and the temporal convolution of a window, strides and padding included."""
  (kt, kh, kw), (st, sh, sw) = module.kernel, module.strides
  padding, bias = module.padding, module.norm is None
  first, last = (padding, padding) if isinstance(padding, str) else ((0, *padding[1:]), (padding[0], 0, 0))
  common: dict[str, Any] = dict(use_bias=bias, kernel_init=module.kernel_init, dtype=module.dtype)
  x = Conv3D(middle, (1, kh, kw), (1, sh, sw), first, name="spatial", **common)(video)
  if module.norm is not None:
    x = module.norm(name="norm")(x)
  return Conv3D(module.features, (kt, 1, 1), (st, 1, 1), last, name="temporal", **common)(nn.relu(x))
