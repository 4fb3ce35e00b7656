"""What the runs of an ablation recorded, and the spread of their scores."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vu_jax.report.headline import value_range
from vu_jax.report.paired import Interval, Kind, interval, interval_words
from vu_jax.report.records import read_json, read_predictions, read_rows
from vu_jax.report.statistics import wilson_interval

MEND = "and the same command writes it again"  # a damaged record of an ablation
Groups = Mapping[str, Sequence[str]]  # folder of a group -> the directories of its runs, both below the ablation's


@dataclass(frozen=True)
class Figures:
  """Of one complete run; None where it did not record them. See `ablation.Variant`.

  Fields:
    split: whose `scores` these are. members: of the population that it was trained in.
  """

  split: str
  scores: Mapping[str, float]
  members: int
  parameters: int | None
  gflop: float | None
  clips_per_s: float | None
  seconds: float | None
  peak_mib: float | None


def outcome_file(directory: pathlib.Path, group: str) -> pathlib.Path:
  """Where it is said how the runs of a group ended."""
  return directory / f"{group}.json"


def read_ends(directory: pathlib.Path, groups: Groups) -> dict[str, dict[str, Any]]:
  """Run -> its state ("complete", "failed" or "unfinished") and the reason of a failure."""
  ends: dict[str, dict[str, Any]] = {}
  for group, runs in groups.items():
    file = outcome_file(directory, group)
    said = read_json(file, {"runs": {}}, MEND)["runs"]
    ends |= {run: {"state": "unfinished", "reason": "", **said.get(run, {})} for run in runs}
  return ends


def read_figures(directory: pathlib.Path, groups: Groups, splits: Sequence[str]) -> dict[str, Figures]:
  """Run -> its figures, of the complete ones that have figures of a split; of the first one of `splits` that it has."""
  ends, found = read_ends(directory, groups), {}
  for runs in groups.values():
    for run in runs:
      file = directory / run / "result.json"
      result = read_json(file, {}, MEND) if ends[run]["state"] == "complete" else {}
      split = next((split for split in splits if isinstance(result.get(split), dict)), None)
      if split:
        found[run] = _figures(directory / run, result, split)
  return found


def spread(scores: Sequence[float], found: Sequence[Figures], metric: str, kind: Kind) -> tuple[Interval | None, str]:
  """The 95 % interval of the mean, and what it is: over seeds, or of one seed over clips."""
  clips = int(found[0].scores.get("num_clips", 0)) if found else 0
  if len(scores) == 1 and metric == "top1" and clips:
    return wilson_interval(round(scores[0] * clips), clips), f"Wilson, {clips} clips of one seed"
  ends = interval(np.array(scores, np.float64), kind, value_range(metric))
  return ends, f"{interval_words(kind)}, {len(scores)} seeds" if ends else ""


def right_answers(predictions: pathlib.Path) -> dict[str, bool]:
  """Clip -> whether its largest probability is that of its label; empty without predictions."""
  found = read_predictions(predictions)
  if found is None:
    return {}
  return dict(zip(found.ids, (found.probabilities.argmax(1) == found.labels).tolist(), strict=True))


def mean(values: Iterable[float | None]) -> float | None:
  """Of those that are known."""
  known = [value for value in values if value is not None]
  return float(np.mean(known)) if known else None


def _figures(run: pathlib.Path, result: Mapping[str, Any], split: str) -> Figures:
  rates = [row["clips_per_s"] for row in read_rows(run / "metrics.jsonl") if "clips_per_s" in row]
  return Figures(
    split=split,
    scores=result[split],
    members=result.get("population", 1),
    parameters=result.get("parameters"),
    gflop=result.get("gflop_per_clip"),
    clips_per_s=float(np.median(rates)) if rates else None,
    seconds=result.get("train_seconds"),
    peak_mib=result.get("peak_mib"),
  )
