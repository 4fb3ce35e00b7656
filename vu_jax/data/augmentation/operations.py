"""Operations on the pixels of a clip: pure functions of `(T H W 3)` uint8 0..255, same shape and range out.

All frames are treated alike, and whatever an operation measures (a histogram, a mean) it measures over the whole clip,
where the literature's image operations measure every image: otherwise a still scene would flicker. With one frame they
agree with Pillow. None writes into its argument; at zero strength some return it as it is.

Milliseconds of one core (Xeon, 2.5 GHz) per clip of 16x112x112, against about 8 for reading it:

  brightness, contrast, saturation, hue: any, together  0.2     blur of deviation 0.5, 1, 2 px            0.8, 1.0, 1.5
  greyscale                                             0.2     turn, shear, shift: any, together         1.9
  posterize                                             0.04    erasing a box of 20 % (`erase.py`)        0.2
  solarize                                              0.6     RandAugment, two operations, mean         2.7
  equalize, auto_contrast                               1.4     TrivialAugment, mean                      1.1
  sharpness                                             0.8     SimCLR's colours, grey and blur, mean     1.2
"""

import math

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vu_jax.data.augmentation.colour import LUMA, blur_radius, colour_matrix, colour_offset

Video = UInt8[np.ndarray, "T H W 3"]
Table = UInt8[np.ndarray, "rows 256 channels"]
FILL = 128  # what comes into view from outside of the frame, as in AutoAugment

_LEVELS = np.arange(256)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's SMOOTH


def recolour(
  video: Video, brightness: float = 1, contrast: float = 1, saturation: float = 1, hue_turn: float = 0
) -> Video:
  """Brightness, contrast, saturation and hue in one pass, exact to one level; see `colour.py` for what they are.

  Args:
    video: a clip.
    brightness, contrast, saturation: factors >= 0; 1 = unchanged.
    hue_turn: share of a full turn of the hues; 1/3 turns red into about green.
  """
  if (brightness, contrast, saturation, hue_turn) == (1, 1, 1, 0):
    return video
  angle = 2 * math.pi * hue_turn
  matrix = colour_matrix(brightness, contrast, saturation, math.cos(angle), math.sin(angle))
  mean_luma = float(LUMA @ cv2.mean(_tall(video))[:3])
  offset = colour_offset(brightness, contrast, mean_luma)
  return cv2.transform(_tall(video), np.column_stack([matrix, [offset] * 3])).reshape(video.shape)


def greyscale(video: Video) -> Video:
  """Every pixel becomes its luma, in three equal channels."""
  grey = cv2.cvtColor(_tall(video), cv2.COLOR_RGB2GRAY)
  return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB).reshape(video.shape)


def posterize(video: Video, bits: int) -> Video:
  """Keeps the highest `bits` (0..8) of every value; 8 = unchanged."""
  return video & np.uint8(256 - 2 ** (8 - bits))


def solarize(video: Video, threshold: int) -> Video:
  """Inverts values at or above the threshold (0..256); 256 = unchanged."""
  return video ^ -(video >= threshold).view(np.uint8)  # -1 is 255: all bits


def equalize(video: Video) -> Video:
  """Maps each channel so that its values are spread evenly over 0..255, by the clip's histogram."""
  return _mapped(video, [_equalizing(counts) for counts in _histograms(video)])


def auto_contrast(video: Video) -> Video:
  """Stretches each channel of the clip to the full range 0..255."""
  return _mapped(video, [_stretching(counts) for counts in _histograms(video)])


def sharpness(video: Video, factor: float) -> Video:
  """0 = smoothed by a 3x3 window, 1 = unchanged, above 1 = sharper; the outermost pixels stay as they are."""
  if factor == 1 or min(video.shape[1:3]) < 3:
    return video
  kernel = (1 - factor) * _SMOOTH
  kernel[1, 1] += factor
  # Frames lie below each other, so only the rows that are put back have seen a neighbouring frame.
  sharp = cv2.filter2D(_tall(video), -1, kernel).reshape(video.shape)
  for edge in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):
    sharp[edge] = video[edge]
  return sharp


def blur(video: Video, sigma_px: float) -> Video:
  """Gaussian blur of deviation `sigma_px` >= 0 [px]; frames are mirrored at their borders."""
  radius = blur_radius(sigma_px)
  if not radius:
    return video
  kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
  kernel /= kernel.sum()
  blurred = np.empty_like(video)
  for frame, target in zip(video, blurred, strict=True):
    cv2.sepFilter2D(frame, -1, kernel, kernel, dst=target)
  return blurred


def affine(
  video: Video,
  turn_deg: float = 0,
  shear: tuple[float, float] = (0, 0),
  shift_frac: tuple[float, float] = (0, 0),
) -> Video:
  """Shears, turns and shifts a clip about its centre, in one bilinear interpolation.

  Args:
    video: a clip.
    turn_deg: counter-clockwise [degrees].
    shear: (x, y): columns to the right per row down, and rows down per column to the right.
    shift_frac: (x, y): to the right and down, as fractions of width and height.
  """
  if (turn_deg, *shear, *shift_frac) == (0, 0, 0, 0, 0):
    return video
  height, width = video.shape[1:3]
  matrix = _affine_matrix(height, width, turn_deg, shear, shift_frac)
  turned = np.empty_like(video)
  for frame, target in zip(video, turned, strict=True):
    cv2.warpAffine(frame, matrix, (width, height), dst=target, borderMode=cv2.BORDER_CONSTANT, borderValue=(FILL,) * 3)
  return turned


def _affine_matrix(
  height: int, width: int, turn_deg: float, shear: tuple[float, float], shift_frac: tuple[float, float]
) -> Float[np.ndarray, "2 3"]:
  """(x, y, 1) of the original -> (x, y) of the result [px]."""
  cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
  linear = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, shear[0]], [shear[1], 1]])  # y points down
  centre = np.array([width - 1, height - 1]) / 2
  shift = np.array([shift_frac[0] * width, shift_frac[1] * height])
  return np.column_stack([linear, centre + shift - linear @ centre])


def _tall(video: Video) -> UInt8[np.ndarray, "T*H W 3"]:
  """The frames below each other: one picture, one call."""
  return np.ascontiguousarray(video).reshape(-1, *video.shape[2:])


def _histograms(video: Video) -> list[Float[np.ndarray, " 256"]]:
  """Counts of the values of each channel."""
  return [cv2.calcHist([_tall(video)], [c], None, [256], [0, 256]).ravel() for c in range(3)]


def _mapped(video: Video, tables: list[np.ndarray]) -> Video:
  table = np.clip(np.stack(tables, axis=-1), 0, 255).astype(np.uint8)[None]
  return cv2.LUT(_tall(video), table).reshape(video.shape)


def _equalizing(counts: Float[np.ndarray, " 256"]) -> np.ndarray:
  """Pillow's table: value i becomes (step / 2 + values below i) / step; a channel of one value stays."""
  counts = counts.astype(np.int64)
  step = int(counts.sum() - counts[counts > 0][-1]) // 255
  if not step:
    return _LEVELS
  below = np.cumsum(counts) - counts
  return (step // 2 + below) // step


def _stretching(counts: Float[np.ndarray, " 256"]) -> np.ndarray:
  """Pillow's table: the lowest value becomes 0, the highest 255; a channel of one value stays."""
  low, high = np.flatnonzero(counts)[[0, -1]]
  return (_LEVELS - low) * 255 // (high - low) if high > low else _LEVELS
