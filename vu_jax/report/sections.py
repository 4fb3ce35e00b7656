"""What each section of the page shows: records in, figures and table rows out; None where none are known."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from vu_jax.report import figures, statistics
from vu_jax.report.curves import Curve, Panel, Unit, log_if_wide, panel
from vu_jax.report.records import Example, Run

_IMAGE_TYPES = {".webp": "image/webp", ".gif": "image/gif", ".png": "image/png", ".jpg": "image/jpeg"}
_MOST_PAIRS, _MOST_CARDS, _GUESSES = 12, 12, 3


@dataclass(frozen=True)
class Confusions:
  """The confusion matrix, the most frequent mistakes and all classes, those of lowest recall first.

  `floor`: where the scale of recall starts, a fraction, so that the differences of a good model can be seen.
  """

  svg: Markup
  pairs: list[statistics.Confusion]
  classes: list[statistics.ClassScore]
  floor: float
  wide: bool  # too many classes to stand beside a table


@dataclass(frozen=True)
class Calibration:
  """The reliability diagram and what it sums up to, fractions."""

  svg: Markup
  error: float
  confidence: float
  accuracy: float


@dataclass(frozen=True)
class Card:
  """One example clip: the image as a data URI and the model's first guesses as (class, probability)."""

  example: Example
  image: str
  guesses: list[tuple[int, float]]


def main_panels(run: Run) -> list[Panel]:
  """Loss and accuracy of all splits; the loss is logarithmic where it spans more than a factor of 30."""
  loss, classes = _curves(run, "loss"), len(run.result.get("labels") or [])
  unit = log_if_wide(loss)
  return [
    *panel("loss", "Loss", loss, note="logarithmic" if unit else "", unit=unit),
    *panel(
      "accuracy",
      "Top-1 accuracy",
      _curves(run, "top1"),
      note="dotted: chance" if classes else "",
      unit="percent",
      reference=1 / classes if classes else None,
    ),
  ]


def small_panels(run: Run) -> list[Panel]:
  """Learning rate, gradient norm, throughput and the share of time spent waiting for data."""
  shown: tuple[tuple[str, str, bool, Unit], ...] = (
    ("lr", "Learning rate", False, ""),
    ("grad_norm", "Gradient norm", True, ""),
    ("clips_per_s", "Clips per second", True, ""),
    ("data_wait_frac", "Waiting for data", True, "percent"),
  )
  panels = []
  for key, title, noisy, unit in shown:
    steps, values = run.series("train", key)
    panels += panel(key, title, [Curve("train", steps, values, noisy)], unit=unit, small=True)
  return panels


def confusions(run: Run) -> Confusions | None:
  """What was taken for what, where the run recorded a confusion matrix."""
  if run.confusion is None:
    return None
  labels = [run.label(y) for y in range(len(run.confusion))]
  scores = statistics.per_class(run.confusion)
  return Confusions(
    svg=Markup(figures.confusion_figure(run.confusion, labels)),
    pairs=statistics.most_confused(run.confusion, _MOST_PAIRS),
    classes=sorted(scores, key=lambda one: (one.support == 0, one.recall, one.f1)),
    floor=_floor([one.recall_interval[0] for one in scores if one.support]),
    wide=len(labels) > 14,
  )


def calibration(run: Run) -> Calibration | None:
  """How far confidence can be trusted, where the run recorded finite predictions."""
  found = run.predictions
  if found is None or not np.isfinite(found.probabilities).all():
    return None
  bins, error = statistics.calibration(found.probabilities, found.labels)
  return Calibration(
    svg=Markup(figures.calibration_figure(bins)),
    error=error,
    confidence=float(found.probabilities.max(axis=1).mean()),
    accuracy=sum(one.right for one in bins) / len(found.labels),
  )


def cards(run: Run, kind: str) -> list[Card]:
  """The example clips of one kind ("wrong" or "right"), in the order in which they were written."""
  chosen = [example for example in run.examples if example.kind == kind][:_MOST_CARDS]
  return [
    Card(
      example=example,
      image=_data_uri(example),
      guesses=sorted(enumerate(example.probabilities), key=lambda pair: -pair[1])[:_GUESSES],
    )
    for example in chosen
  ]


def _curves(run: Run, key: str) -> list[Curve]:
  splits = ("train", "validation", "test")
  found = [(split, *run.series(split, key)) for split in splits]
  return [
    Curve(split, steps, values, split == "train", _spread(run, split, key))
    for split, steps, values in found
    if len(steps)
  ]


def _spread(run: Run, split: str, key: str) -> Float[np.ndarray, "n 2"] | None:
  (steps, values), clips = run.series(split, key), dict(zip(*run.series(split, "num_clips"), strict=True))
  if key != "top1" or not all(step in clips for step in steps):
    return None
  counts = [int(clips[step]) for step in steps]
  return np.array([statistics.wilson_interval(v * n, n) for v, n in zip(values, counts, strict=True)])


def _floor(lows: Sequence[float]) -> float:
  """The whole 10 % below all low ends, 0 at least and 90 % at most."""
  return min(9, int(10 * min(lows, default=0.0))) / 10


def _data_uri(example: Example) -> str:
  kind = _IMAGE_TYPES.get(example.image.suffix.lower(), "application/octet-stream")
  return f"data:{kind};base64,{base64.b64encode(example.image.read_bytes()).decode()}"
