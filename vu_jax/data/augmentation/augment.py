"""AUGMENT: what training changes in the pixels of a clip, one draw for all of its frames.

`view.py` has chosen crop, scale and mirroring before; `train/mix.py` mixes clips of a batch after.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8

from vu_jax.data.augmentation import policies
from vu_jax.data.augmentation.erase import Fill, box_size, erase
from vu_jax.data.augmentation.operations import affine, blur, greyscale, recolour, solarize
from vu_jax.data.augmentation.policies import Operation
from vu_jax.data.clips import Rng
from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction, Positive, PositiveOrZero, Range

Video = UInt8[np.ndarray, "T H W 3"]
_BYOL_THRESHOLD = 128


@dataclass(frozen=True, kw_only=True)
class Augment:
  """What is changed, and how much; by default nothing. The order of the fields is the order of work.

  Fields:
    policy: "rand" (RandAugment) or "trivial" (TrivialAugment) draws among `operations`; see `policies.py`.
    operations: names of what the policy draws from. Directions: a turned "left" may be an "up".
    count, magnitude, magnitude_std: of RandAugment; the magnitude is 0..10.
    turn_deg: turns by up to so many degrees either way.
    shear, shift_frac: largest shear [px per px] and shift [share of the side], either way, along both axes.
    brightness, contrast, saturation: the factor is drawn from 1 - value to 1 + value.
    hue_turn: hues turn by up to this share of a full turn either way.
    colour_frac: share of clips that these four change.
    grey_frac: share of clips that lose their colours.
    blur_frac, blur_sigma_px: share of clips that are blurred, and the range of the deviation [px].
    colour_on: where the six above happen; "device" spares the host, and colours after what follows here.
    solarize_frac: share of clips whose values of 128 and above are inverted (BYOL, Grill et al. 2020, appendix B).
    erase_frac: share of clips from which a box is erased; see `erase.py`.
    erase_area_frac, erase_aspect: range of its area [share of the frame] and of height / width.
    erase_fill, erase_moves: what it shows, and whether it moves or stands still.
    mixup_alpha, cutmix_alpha: of Beta(alpha, alpha), from which shares of two clips are drawn; 0 = off; with both on,
      each clip gets one of them; see `train/mix.py`.
    cutmix_region: what CutMix exchanges: a box in all frames, whole frames, or a box in some frames.
    mix_frac: share of clips that are mixed.
  """

  policy: Literal["none", "rand", "trivial"] = "none"
  operations: tuple[Operation, ...] = policies.OPERATIONS
  count: Count = 2
  magnitude: Annotated[float, Range(low=0, high=policies.MAX_MAGNITUDE)] = 9.0
  magnitude_std: PositiveOrZero = 0.5
  turn_deg: Annotated[float, Range(low=0, high=180)] = 0.0
  shear: Annotated[float, Range(low=0, high=0.9)] = 0.0
  shift_frac: Fraction = 0.0
  brightness: Fraction = 0.0
  contrast: Fraction = 0.0
  saturation: Fraction = 0.0
  hue_turn: Annotated[float, Range(low=0, high=0.5)] = 0.0
  colour_frac: Fraction = 1.0
  grey_frac: Fraction = 0.0
  blur_frac: Fraction = 0.0
  blur_sigma_px: tuple[Positive, Positive] = (0.1, 2.0)
  colour_on: Literal["host", "device"] = "host"
  solarize_frac: Fraction = 0.0
  erase_frac: Fraction = 0.0
  erase_area_frac: tuple[Positive, Fraction] = (0.02, 0.33)
  erase_aspect: tuple[Positive, Positive] = (0.3, 3.3)
  erase_fill: Fill = "noise"
  erase_moves: bool = False
  mixup_alpha: PositiveOrZero = 0.0
  cutmix_alpha: PositiveOrZero = 0.0
  cutmix_region: Literal["space", "time", "space_time"] = "space"
  mix_frac: Fraction = 1.0

  def __post_init__(self) -> None:
    for name in ("blur_sigma_px", "erase_area_frac", "erase_aspect"):
      low, high = getattr(self, name)
      if low > high:
        raise UserError(f"{name} = ({low:g}, {high:g}): the first must not be above the second")
    if self.policy != "none" and not self.operations:
      raise UserError('operations = (): name at least one, or set policy="none"')

  @property
  def recolours(self) -> bool:
    """Whether anything is to be done to colours or sharpness."""
    return any((self.brightness, self.contrast, self.saturation, self.hue_turn, self.grey_frac, self.blur_frac))


def augmented(video: Video, options: Augment, rng: Rng) -> Video:
  """One clip as training sees it; the argument is not written into.

  Args:
    video: RGB 0..255.
    options: what is on.
    rng: draws, only for what is on; None = evaluation: the clip itself.
  """
  if rng is None:
    return video
  if options.policy == "rand":
    chosen = options.operations
    video = policies.rand_augment(video, options.count, options.magnitude, options.magnitude_std, rng, chosen)
  elif options.policy == "trivial":
    video = policies.trivial_augment(video, rng, options.operations)
  video = _moved(video, options, rng)
  if options.colour_on == "host":
    video = _recoloured(video, options, rng)
  if _happens(options.solarize_frac, rng):
    video = solarize(video, _BYOL_THRESHOLD)
  if _happens(options.erase_frac, rng):
    _, height, width, _ = video.shape
    size = box_size(height, width, options.erase_area_frac, options.erase_aspect, rng)
    video = erase(video, size, options.erase_moves, options.erase_fill, rng)
  return video


def _moved(video: Video, options: Augment, rng: np.random.Generator) -> Video:
  turn, shear, shift = options.turn_deg, options.shear, options.shift_frac
  if not (turn or shear or shift):
    return video
  angle, *slopes = rng.uniform(-1, 1, 5) * (turn, shear, shear, shift, shift)
  return affine(video, angle, (slopes[0], slopes[1]), (slopes[2], slopes[3]))


def _recoloured(video: Video, options: Augment, rng: np.random.Generator) -> Video:
  spreads = options.brightness, options.contrast, options.saturation
  if any((*spreads, options.hue_turn)) and _happens(options.colour_frac, rng):
    factors = 1 + rng.uniform(-1, 1, 3) * spreads
    video = recolour(video, *factors, hue_turn=options.hue_turn * rng.uniform(-1, 1))
  if _happens(options.grey_frac, rng):
    video = greyscale(video)
  if _happens(options.blur_frac, rng):
    video = blur(video, rng.uniform(*options.blur_sigma_px))
  return video


def _happens(frac: float, rng: np.random.Generator) -> bool:
  """True for this share of draws; draws nothing where it never is."""
  return frac > 0 and rng.uniform() < frac
