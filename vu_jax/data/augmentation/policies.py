"""Policies: which operation, how strong: RandAugment and TrivialAugment, one draw for all frames of a clip.

Differs from the papers: shears are about the centre and interpolation is bilinear (theirs: the corner, nearest); the
factors of brightness, colour, contrast and sharpness are 1 +- strength, so that strength 0 changes nothing (theirs runs
from 0.1 to 1.9 with the identity in the middle); solarize starts at 256 and posterize at 8 bits for the same reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import UInt8

from vu_jax.data.augmentation.operations import (
  affine,
  auto_contrast,
  equalize,
  posterize,
  recolour,
  sharpness,
  solarize,
)

Video = UInt8[np.ndarray, "T H W 3"]
Operation: TypeAlias = Literal[
  "identity", "auto_contrast", "equalize", "rotate", "solarize", "colour", "posterize", "contrast", "brightness",
  "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
]  # fmt: skip
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
MAX_MAGNITUDE = 10
_BINS = 31  # strengths that TrivialAugment chooses from


@dataclass(frozen=True)
class Ranges:
  """What full strength means.

  Fields:
    shear: columns per row. shift_frac: of the side. turn_deg: degrees. factor: of colour, contrast, brightness and
      sharpness, added to or taken from 1. bits: that posterize leaves.
  """

  shear: float
  shift_frac: float
  turn_deg: float
  factor: float
  bits: int


# AutoAugment (Cubuk et al. 2019, appendix), which RandAugment takes over; 150 px of its 331.
RAND = Ranges(shear=0.3, shift_frac=150 / 331, turn_deg=30, factor=0.9, bits=4)
# The "wide" space of Mueller & Hutter 2021; 32 px of ImageNet's 224.
TRIVIAL = Ranges(shear=0.99, shift_frac=32 / 224, turn_deg=135, factor=0.99, bits=2)


def rand_augment(
  video: Video,
  count: int,
  magnitude: float,
  std: float,
  rng: np.random.Generator,
  operations: Sequence[Operation] = OPERATIONS,
) -> Video:
  """RandAugment (Cubuk et al. 2020, section 3): `count` operations, each drawn evenly, with replacement.

  Args:
    video: a clip.
    count: operations in a row.
    magnitude: of all of them, 0..10.
    std: deviation of a normal draw around it, one per operation, cut to 0..10; 0 = the paper's.
    rng: draws.
    operations: to draw from.
  """
  for _ in range(count):
    name = operations[int(rng.integers(len(operations)))]
    strength = np.clip(magnitude + std * rng.normal(), 0, MAX_MAGNITUDE) / MAX_MAGNITUDE
    video = operate(video, name, float(strength) * _sign(rng), RAND)
  return video


def trivial_augment(video: Video, rng: np.random.Generator, operations: Sequence[Operation] = OPERATIONS) -> Video:
  """TrivialAugment, wide (Mueller & Hutter 2021, section 3): one operation of one of 31 strengths, drawn evenly."""
  name = operations[int(rng.integers(len(operations)))]
  strength = float(rng.integers(_BINS)) / (_BINS - 1)
  return operate(video, name, strength * _sign(rng), TRIVIAL)


def operate(video: Video, name: Operation, strength: float, ranges: Ranges) -> Video:
  """One operation; strength -1..1, where the sign is a direction and means nothing to posterize and solarize."""
  factor, size = 1 + strength * ranges.factor, abs(strength)
  match name:
    case "identity":
      return video
    case "auto_contrast":
      return auto_contrast(video)
    case "equalize":
      return equalize(video)
    case "rotate":
      return affine(video, turn_deg=strength * ranges.turn_deg)
    case "solarize":
      return solarize(video, round(256 * (1 - size)))
    case "colour":
      return recolour(video, saturation=factor)
    case "posterize":
      return posterize(video, 8 - round(size * (8 - ranges.bits)))
    case "contrast":
      return recolour(video, contrast=factor)
    case "brightness":
      return recolour(video, brightness=factor)
    case "sharpness":
      return sharpness(video, factor)
    case "shear_x":
      return affine(video, shear=(strength * ranges.shear, 0))
    case "shear_y":
      return affine(video, shear=(0, strength * ranges.shear))
    case "translate_x":
      return affine(video, shift_frac=(strength * ranges.shift_frac, 0))
    case "translate_y":
      return affine(video, shift_frac=(0, strength * ranges.shift_frac))
  raise ValueError(f"no operation {name!r}")


def _sign(rng: np.random.Generator) -> int:
  return 1 if rng.uniform() < 0.5 else -1
