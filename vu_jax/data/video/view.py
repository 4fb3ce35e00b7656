"""Which pixels of a video's frames a clip shows: chosen before decoding, so that nothing else is converted."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from vu_jax.data.clips import Rng
from vu_jax.data.video.picture import Size, resize
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Positive, Seen

Video = UInt8[np.ndarray, "T H W 3"]


@dataclass(frozen=True, kw_only=True)
class Pixels:
  """What the network sees of a frame.

  Fields:
    short_side: frames are resized until their short side has so many pixels; 0 = as stored.
    crop: side of the square that is cut out [px], at random in training, the centre in evaluation.
    window: how training chooses the square. "crop" has the size of evaluation's; "jitter" resizes the short side to a
      random length of `jitter` times `short_side` first (Simonyan & Zisserman 2014, "Very deep", section 3.1);
      "area" takes a rectangle of a random share `area_frac` of the frame and a random `aspect` (Szegedy et al. 2015,
      "Going deeper with convolutions", section 6).
    jitter, area_frac, aspect: their ranges; aspect is width / height.
    flip: mirror left and right with probability 1/2 in training; wrong for labels such as "left".
    mean, std: of the pixels as fractions of full scale, per channel.
    seen: the network sees the "frames", their "differences" to the frame before, or "both"; see `vu_jax/net.py`.
  """

  short_side: CountOrZero = 0
  crop: Count = 112
  window: Literal["crop", "jitter", "area"] = "crop"
  jitter: tuple[Positive, Positive] = (1.0, 1.25)
  area_frac: tuple[Positive, Fraction] = (0.3, 1.0)
  aspect: tuple[Positive, Positive] = (3 / 4, 4 / 3)
  flip: bool = False
  mean: tuple[Fraction, Fraction, Fraction] = (0.5, 0.5, 0.5)
  std: tuple[Positive, Positive, Positive] = (0.25, 0.25, 0.25)
  seen: Seen = "frames"

  def __post_init__(self) -> None:
    for name in ("jitter", "area_frac", "aspect"):
      low, high = getattr(self, name)
      if low > high:
        raise UserError(f"{name} = ({low:g}, {high:g}): the first must not be above the second")


@dataclass(frozen=True)
class View:
  """A window of upright frames of size `frame` (height, width) [px], the `size` it is shown at, mirrored or not.

  Frames of another size show the same part of the picture.
  """

  frame: Size
  top: int
  left: int
  height: int
  width: int
  size: Size
  flip: bool = False


def resized(pixels: Pixels, height: int, width: int) -> Size:
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


def choose_view(pixels: Pixels, height: int, width: int, rng: Rng, place: tuple[float, float] = (0.5, 0.5)) -> View:
  """The window of one clip in frames of height x width [px], the same in all frames.

  Args:
    pixels: the rule.
    height, width: of the stored frames, upright [px].
    rng: draws window, place and mirroring; None = evaluation: the unmirrored crop at `place`.
    place: of the crop in evaluation, (down, right) as fractions of the room for it.

  Raises:
    UserError: the crop does not fit.
  """
  short = min(resized(pixels, height, width))
  side = pixels.crop * min(height, width) / short
  window = (side, side)
  if rng is not None:
    if pixels.window == "jitter":
      window = (side / rng.uniform(*pixels.jitter),) * 2
    elif pixels.window == "area":
      window = _rectangle(pixels, height, width, rng)
    place = (rng.uniform(), rng.uniform())
  h, w = (min(max(round(n), 1), full) for n, full in zip(window, (height, width), strict=True))
  top, left = (_start(full - n, p) for full, n, p in zip((height, width), (h, w), place, strict=True))
  flip = pixels.flip and rng is not None and rng.uniform() < 0.5
  return View((height, width), top, left, h, w, (pixels.crop, pixels.crop), flip)


def whole(height: int, width: int, size: Size | None = None) -> View:
  """The whole frame, at its own size or another."""
  return View((height, width), 0, 0, height, width, size or (height, width))


def window_of(view: View, size: Size) -> tuple[slice, slice]:
  """The window's rows and columns in frames of a size (height, width) [px]; at least one of each."""
  spans = []
  for full, n, start, length in zip(size, view.frame, (view.top, view.left), (view.height, view.width), strict=True):
    first, last = round(start * full / n), round((start + length) * full / n)
    first = min(first, full - 1)
    spans.append(slice(first, max(last, first + 1)))
  return spans[0], spans[1]


def show(view: View, part: UInt8[np.ndarray, "h w 3"], out: UInt8[np.ndarray, "H W 3"]) -> None:
  """Writes the window's pixels, at the size of the view and mirrored if it is, into `out`."""
  if part.shape == out.shape:
    out[:] = part[:, ::-1] if view.flip else part
  elif view.flip:
    out[:] = resize(part, view.size)[:, ::-1]
  else:
    resize(part, view.size, out)


def see(video: Video, view: View) -> UInt8[np.ndarray, "T h w 3"]:
  """The view of a clip that is decoded already."""
  rows, columns = window_of(view, video.shape[1:3])
  out = np.empty((len(video), *view.size, 3), np.uint8)
  for frame, shown in zip(video, out, strict=True):
    show(view, frame[rows, columns], shown)
  return out


def _start(room: int, place: float) -> int:
  """0..room, each equally often for a uniform place; the middle, rounded down, for 0.5."""
  return min(int(place * (room + 1)), room) if place != 0.5 else room // 2


def _rectangle(pixels: Pixels, height: int, width: int, rng: np.random.Generator) -> tuple[float, float]:
  """(height, width) of a random area and aspect that fits; after ten attempts, the largest centred square."""
  for _ in range(10):
    area = height * width * rng.uniform(*pixels.area_frac)
    aspect = math.exp(rng.uniform(math.log(pixels.aspect[0]), math.log(pixels.aspect[1])))
    h, w = math.sqrt(area / aspect), math.sqrt(area * aspect)
    if h <= height and w <= width:
      return h, w
  return (min(height, width),) * 2
