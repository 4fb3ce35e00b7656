"""Evaluations of a run: which one is best, and for how many of them nothing has improved."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vu_jax.disk import write_text
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero

FILE = "evaluations.json"
Figures: TypeAlias = Mapping[str, float]
Direction: TypeAlias = Literal["auto", "highest", "lowest"]
_LOW = ("loss", "error", "perplexity")


@dataclass(frozen=True)
class Best:
  """What makes one evaluation better than another.

  Fields:
    metric: its name; "" = top1 where there is one, else loss.
    direction: "auto" = the lowest of a loss, error or perplexity, the highest of all else.
  """

  metric: str = ""
  direction: Direction = "auto"

  def name(self, figures: Figures) -> str:
    """The metric that counts.

    Raises:
      UserError: the evaluation has no such figure.
    """
    found = self.metric or ("top1" if "top1" in figures else "loss")
    if found not in figures:
      known = ", ".join(sorted(figures))
      raise UserError(f'config.train.best_metric = "{self.metric}": the evaluation gives no {found} (it gives {known})')
    return found

  def value(self, figures: Figures) -> float:
    """Larger is better; what is not a number is worst."""
    name = self.name(figures)
    low = self.direction == "lowest" or (self.direction == "auto" and any(word in name for word in _LOW))
    value = -figures[name] if low else figures[name]
    return -math.inf if math.isnan(value) else value

  def ranked(self, scores: Mapping[int, Figures]) -> list[int]:
    """Steps, the best first; of equal ones the earlier."""
    return sorted(scores, key=lambda step: (-self.value(scores[step]), step))


def waited(scores: Mapping[int, Figures], best: Best) -> int:
  """Evaluations since the best one."""
  return sum(step > best.ranked(scores)[0] for step in scores) if scores else 0


def kept(
  steps: Sequence[int], scores: Mapping[int, Figures], best: Best, newest: Count, keep_best: CountOrZero
) -> set[int]:
  """Which of the checkpoints at these steps stay: the `newest`, and of those that were evaluated the best."""
  rank = best.ranked({step: figures for step, figures in scores.items() if step in steps})
  return {*sorted(steps)[-newest:], *rank[:keep_best]}


def read_scores(folder: pathlib.Path) -> dict[int, dict[str, float]]:
  """The evaluations recorded beside the checkpoints, step -> figures; none where the file is missing or damaged."""
  try:
    return {int(step): figures for step, figures in json.loads((folder / FILE).read_text()).items()}
  except (FileNotFoundError, ValueError):
    return {}


def write_scores(folder: pathlib.Path, scores: Mapping[int, Figures]) -> None:
  write_text(folder / FILE, json.dumps({str(step): dict(figures) for step, figures in scores.items()}, indent=1))
