"""Pixels folded into channels and back: no parameters, nothing lost."""

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float


def pad_frames(video: Float[Array, "B T H W C"], multiple: int) -> Float[Array, "B T Hp Wp C"]:
  """The video with zeros below and to the right, up to sides that `multiple` divides [pixels]."""
  below, right = (-n % multiple for n in video.shape[2:4])
  return jnp.pad(video, ((0, 0), (0, 0), (0, below), (0, right), (0, 0)))


def to_patches(video: Float[Array, "B T H W C"], patch: int) -> Float[Array, "B T h w P"]:
  """Squares of patch x patch pixels as channels in the order (row, column, C), after `pad_frames`."""
  video = pad_frames(video, patch)
  return rearrange(video, "b t (h ph) (w pw) c -> b t h w (ph pw c)", ph=patch, pw=patch)


def from_patches(x: Float[Array, "B T h w P"], patch: int, height: int, width: int) -> Float[Array, "B T H W C"]:
  """The inverse of `to_patches` for frames of height x width [pixels]: what was padded is cut off."""
  video = rearrange(x, "b t h w (ph pw c) -> b t (h ph) (w pw) c", ph=patch, pw=patch)
  return video[:, :, :height, :width]


def pixel_shuffle(x: Float[Array, "B T h w P"], factor: int) -> Float[Array, "B T H W C"]:
  """Channels in the order (C, row, column) as pixels of a frame `factor` times as high and wide.

  Source: Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution", equation 4; the order is torch's.
  """
  return rearrange(x, "b t h w (c rh rw) -> b t (h rh) (w rw) c", rh=factor, rw=factor)
