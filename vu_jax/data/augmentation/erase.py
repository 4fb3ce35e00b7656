"""Random erasing of a box of the clip (Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1)."""

import math
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8

Video = UInt8[np.ndarray, "T H W 3"]
Fill: TypeAlias = Literal["noise", "grey"]
Pair = tuple[float, float]

_GREY = 128


def box_size(height: int, width: int, area_frac: Pair, aspect: Pair, rng: np.random.Generator) -> tuple[int, int]:
  """(height, width) [px] of a box of random area and shape that fits into the frame.

  Args:
    height, width: of the frame [px].
    area_frac: range of box area / frame area.
    aspect: range of box height / width, drawn evenly on a logarithmic scale.
    rng: draws.

  Returns:
    At least 1x1 px; where 20 draws do not fit, the last one, cut to the frame.

  Differs from the paper: the aspect is drawn on a logarithmic scale, so that lying and standing boxes are equally
  frequent, and the draws end.
  """
  h = w = 0.0
  for _ in range(20):
    area = height * width * rng.uniform(*area_frac)
    shape = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    h, w = math.sqrt(area * shape), math.sqrt(area / shape)
    if h <= height and w <= width:
      break
  return min(max(round(h), 1), height), min(max(round(w), 1), width)


def erase(video: Video, size: tuple[int, int], moves: bool, fill: Fill, rng: np.random.Generator) -> Video:
  """Covers a box of the given size, somewhere.

  Args:
    video: a clip; it is copied.
    size: (height, width) of the box [px], at most the frame's.
    moves: False = the box stands still; True = it moves on a straight line between two random places, evenly.
    fill: "noise" = random values, the same in all frames (the best of the paper's choices); "grey" = 128.
    rng: draws places and noise.
  """
  h, w = size
  room = np.array([video.shape[1] - h, video.shape[2] - w])
  first = rng.integers(room + 1)
  last = rng.integers(room + 1) if moves else first
  shown = rng.integers(256, size=(h, w, 3), dtype=np.uint8) if fill == "noise" else np.uint8(_GREY)
  erased = video.copy()
  corners = np.rint(np.linspace(first, last, len(video))).astype(int)
  for frame, (top, left) in zip(erased, corners, strict=True):
    frame[top : top + h, left : left + w] = shown
  return erased
