"""PROTOCOL: which views of a video evaluation takes, and how it is worded beside every figure."""

from dataclasses import dataclass
from typing import Literal

from vu_jax.glossary import Count


@dataclass(frozen=True, kw_only=True)
class Eval:
  """The views of a video in the evaluation that counts; evaluations during training take one, in the middle.

  Fields:
    clips: temporal views, evenly spaced, first and last possible start included; one is in the middle.
    crops: spatial views: 1 = the centre, 3 = both ends and the middle of the longer side (Feichtenhofer et al. 2019,
      "SlowFast", section 4).
    average: a video's answer is the mean over its views of the "probabilities" or of the "logits".
  """

  clips: Count = 1
  crops: Literal[1, 3] = 1
  average: Literal["probabilities", "logits"] = "probabilities"

  @property
  def num_views(self) -> int:
    """V: views per video; view `v` is clip `v // crops`, crop `v % crops`."""
    return self.clips * self.crops

  def clip(self, view: int) -> tuple[int, int]:
    """(number, count) of a view's clip, as `frame_numbers` takes it."""
    return view // self.crops, self.clips

  def place(self, view: int, height: int, width: int) -> tuple[float, float]:
    """(down, right) of a view's crop as fractions of the room for it, as `choose_view` takes it."""
    if self.crops == 1:
      return 0.5, 0.5
    along = (view % self.crops) / 2
    return (along, 0.5) if height > width else (0.5, along)

  def words(self, sampling: str) -> str:
    """Such as "10x3 views, probabilities averaged"; `sampling` is that of the clips."""
    if self.num_views == 1:
      return f"one {sampling} clip per video, in the middle, centre crop"
    return f"{self.clips}x{self.crops} views, {self.average} averaged, {sampling} clips"


ONE_VIEW = Eval()
