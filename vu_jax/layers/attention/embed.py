"""Patch and tubelet embedding: video in, a grid of tokens out."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from flax.typing import Initializer
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.layers.convolution import window
from vu_jax.layers.convolution.conv import conv3d
from vu_jax.layers.convolution.window import Padding
from vu_jax.layers.dense import add_bias
from vu_jax.layers.initial import KERNEL
from vu_jax.layers.precision import Dtype, cast
from vu_jax.layers.product import product

Triple = tuple[int, int, int]


def embed_tubelets(video: Float[Array, "B T H W C"], kernel: Float[Array, "kt kh kw C D"]) -> Float[Array, "B t h w D"]:
  """Projects tubelets that do not overlap; equals a convolution with strides as large as the kernel.

  A rearrangement and one matrix product, which every backend runs near its peak, forwards and backwards.

  Raises:
    UserError: the tubelets do not fill the video exactly; the message names the nearest sizes that work.

  Source: Arnab et al. 2021, "ViViT", section 3.2, "Tubelet embedding".
  """
  kt, kh, kw = kernel.shape[:3]
  check_divides(video.shape[1:4], (kt, kh, kw))
  tubelets = rearrange(video, "b (t kt) (h kh) (w kw) c -> b t h w (kt kh kw c)", kt=kt, kh=kh, kw=kw)
  return product(tubelets, rearrange(kernel, "kt kh kw c d -> (kt kh kw c) d"))


def check_divides(size: tuple[int, ...], patch: tuple[int, ...]) -> None:
  """Raises UserError unless patches of (time, height, width) fill a video of that size."""
  for name, n, k in zip(window.AXES, size, patch, strict=True):
    if n % k:
      below, above = n // k * k, -(-n // k) * k
      fitting = f"{below} or {above}" if below else f"{above}"
      raise UserError(f"{name} is {n}: patches need a multiple of {k}, such as {fitting}")


def inflate(
  kernel: Float[Array, "kh kw C D"], kt: int, mode: Literal["mean", "central"] = "mean"
) -> Float[Array, "kt kh kw C D"]:
  """A video kernel of `kt` frames from that of an image model, for the start of training.

  Args:
    kernel: of the image model.
    kt: frames that the video kernel sees, at least 1.
    mode: "mean" gives every frame 1 / kt of the kernel, so that a still clip yields the features of the image;
      "central" gives all of it to frame kt // 2 and zeros to the others, so that every clip yields those of that frame.

  Raises:
    ValueError: kt below 1.

  Source: "mean" Carreira and Zisserman 2017, "I3D", section 2.4, and Arnab et al. 2021, "ViViT", equation 8;
    "central" Arnab et al. 2021, equation 9.
  """
  if kt < 1:
    raise ValueError(f"kt {kt}: a video kernel sees at least 1 frame")
  if mode == "mean":
    return repeat(kernel / kt, "kh kw c d -> kt kh kw c d", kt=kt)
  before = kt // 2
  return jnp.pad(kernel[None], ((before, kt - 1 - before), (0, 0), (0, 0), (0, 0), (0, 0)))


class PatchEmbed(nn.Module):
  """Patches, tubelets or overlapping patches of a video as tokens: (B T H W C) -> (B t h w features).

  Parameters: `kernel` (kt kh kw C features), laid out like that of a convolution, and `bias` (features).

  Fields:
    features: width of a token.
    patch: (kt, kh, kw), what one token sees [frames, pixels, pixels]; (1, 16, 16) are the image patches of
      TimeSformer, (2, 16, 16) the tubelets of ViViT and VideoMAE.
    strides: from token to token; `patch` when left out, that is, no overlap. MViT: patch (3, 7, 7), strides (2, 4, 4),
      padding (1, 3, 3).
    padding: as in `layers.window.resolve`.
    kernel_init: of `kernel`; `bias` starts at zero.
    dtype: of the computation; parameters are float32.

  Raises:
    UserError: without overlap and padding, when the patches do not fill the video exactly.
    ValueError: otherwise when a patch is larger than the padded video.

  Source: Arnab et al. 2021, "ViViT", section 3.2; Fan et al. 2021, "MViT" (overlapping).
  """

  features: int
  patch: Triple = (2, 16, 16)
  strides: Triple | None = None
  padding: Padding = "VALID"
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
    shape = (*self.patch, video.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    video, kernel = cast(self.dtype, video, kernel)
    strides = self.strides or self.patch
    if strides == self.patch and self.padding == "VALID":
      return add_bias(self, embed_tubelets(video, kernel))
    return add_bias(self, conv3d(video, kernel, strides, self.padding))
