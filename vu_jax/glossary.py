"""Words that mean one thing everywhere: dimension letters, units, value ranges and batch keys.

Dimension letters, in shapes such as `Float[Array, "B T H W C"]`:
  B clips                 V views per video         T, H, W frames, height, width of a video
  C channels              t, h, w token grid        N flat tokens
  D feature width         A attention heads         M kept or masked tokens
  Y classes               S text or audio steps     P population members

Units, as the last part of a name: `_s` seconds, `_f` frames, `_px` pixels, `_hz` hertz, `_frac` fraction 0..1.
Pixels are uint8 0..255 on the host and become floats on the device (`vu_jax/net.py`). Loss is in nats.

Batch keys (arrays with a leading B unless said otherwise):
  video  uint8 (B, T, H, W, 3)
  label  int32 (B,)
  index  int32 (B,)        position of the clip's video in its split; evaluation joins ids and clips by it
  view   int32 (B,)        evaluation: number of the view of its video, 0 .. V-1
  target float32 (B, Y)    soft labels, where clips were mixed
  mask   float32 (B,)      1 = a real clip, 0 = padding of the last batch
  audio  float32 (B, S)    sound of the clip, -1..1, where it is configured
  audio_valid int32 (B, 2) first and behind the last sample that the sound track has; the others are silence
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

Seen: TypeAlias = Literal["frames", "differences", "both"]
"""What a network sees of a clip: its frames, their differences to the frame before, or both, as 2 C channels."""


@dataclass(frozen=True)
class Range:
  """Bounds of a configured number, both inclusive; `config.build` checks them."""

  low: float = float("-inf")
  high: float = float("inf")


Count = Annotated[int, Range(low=1)]
CountOrZero = Annotated[int, Range(low=0)]
Positive = Annotated[float, Range(low=1e-12)]
PositiveOrZero = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1)]


def known(value: Any) -> bool:
  """Whether a hyperparameter is a number, which may decide what is compiled.

  Where members of a population differ in it (`train/population.py`) it is a scalar that is traced, and may be anything.
  """
  return isinstance(value, (int, float))


def is_zero(value: Any) -> bool:
  """Whether a hyperparameter is known to be 0, so that what it is of can be left out."""
  return known(value) and value == 0
