"""Pixels of a clip: resize, crop, flip. Pure functions of `(T H W 3)` uint8 0..255, same range out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from vu_jax.data.clips import Rng, crop_corner
from vu_jax.data.picture import resize
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Positive

Video = UInt8[np.ndarray, "T H W 3"]


@dataclass(frozen=True, kw_only=True)
class Pixels:
  """What the network sees of a frame.

  Fields:
    short_side: frames are resized until their short side has so many pixels; 0 = as stored.
    crop: side of the square that is cut out [px], at random in training, the centre in evaluation.
    flip: mirror left and right with probability 1/2 in training; wrong for labels such as "left".
    mean, std: of the pixels as fractions of full scale, per channel.
  """

  short_side: CountOrZero = 0
  crop: Count = 112
  flip: bool = False
  mean: tuple[Fraction, Fraction, Fraction] = (0.5, 0.5, 0.5)
  std: tuple[Positive, Positive, Positive] = (0.25, 0.25, 0.25)


def resized(pixels: Pixels, height: int, width: int) -> tuple[int, int]:
  """(height, width) [px] of a stored frame after the resize.

  Raises:
    UserError: the crop does not fit.
  """
  scale = pixels.short_side / min(height, width) if pixels.short_side else 1.0
  size = round(height * scale), round(width * scale)
  if min(size) < pixels.crop:
    raise UserError(
      f"config.pixels.crop = {pixels.crop}: frames have only {size[1]}x{size[0]} px; lower the crop to at most "
      f"{min(size)}, or raise config.pixels.short_side"
    )
  return size


def see(video: Video, pixels: Pixels, rng: Rng) -> UInt8[np.ndarray, "T crop crop 3"]:
  """Resize, crop and perhaps flip one clip, all frames alike; rng None = evaluation."""
  height, width = resized(pixels, *video.shape[1:3])
  if video.shape[1:3] != (height, width):
    video = np.stack([resize(frame, (height, width)) for frame in video])
  top, left = crop_corner(height, width, pixels.crop, rng)
  video = video[:, top : top + pixels.crop, left : left + pixels.crop]
  flip = pixels.flip and rng is not None and rng.uniform() < 0.5
  return np.ascontiguousarray(video[:, :, ::-1] if flip else video)
