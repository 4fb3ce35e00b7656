"""Several runs side by side: their figures, those that differ by seed only as groups, and how their configs differ."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vu_jax.config import digest, flat
from vu_jax.report import headline
from vu_jax.report.html import setting
from vu_jax.report.paired import Interval, interval
from vu_jax.report.records import Run
from vu_jax.report.statistics import wilson_interval
from vu_jax.report.tables import csv_table, markdown_table

SEEDS = ("seed", "loader.order_seed")  # what runs of one group may differ in
_PLAIN = ("parameters", "gflop_per_clip", "train_seconds", "peak_mib")


@dataclass(frozen=True)
class Row:
  """What a reader compares of one run; None where it was not recorded.

  Fields:
    gflop: of one clip forward, a multiply-add is two. clips_per_s: median of training. seconds: of the whole run.
    score: the metric of the newest evaluation, on `split`.
    interval: 95 %, over the clips of the split, where the metric is top-1 accuracy.
  """

  run: str
  model: str
  parameters: int | None
  gflop: float | None
  clips_per_s: float | None
  seconds: float | None
  peak_mib: float | None
  metric: str
  score: float | None
  interval: Interval | None
  split: str


@dataclass(frozen=True)
class Group:
  """Runs that differ by seed only, the same row of the page.

  Fields:
    mean: of the runs' scores. interval: 95 %, "t" over seeds or "Wilson" over the clips of one run.
  """

  name: str
  runs: tuple[Run, ...]
  rows: tuple[Row, ...]
  mean: float | None
  interval: Interval | None
  kind: str

  @property
  def scores(self) -> tuple[float, ...]:
    return tuple(row.score for row in self.rows if row.score is not None)


def main_metric(runs: Sequence[Run]) -> str:
  """What the runs are compared by: top-1 accuracy where any has it, else the loss, else the first that they share."""
  found = [run.evaluation.metrics.keys() for run in runs if run.evaluation]
  known = [key for key in ("top1", "loss") if any(key in keys for keys in found)]
  shared = sorted(set.intersection(*map(set, found)) - {"num_clips"}) if found else []
  return next(iter([*known, *shared]), "top1")


def names(runs: Sequence[Run]) -> list[str]:
  """Names of runs; where two are the same, as much of the paths as tells them apart."""
  found = [run.name for run in runs]
  paths = [run.directory.resolve().parts for run in runs]
  length = 1
  while len(set(found)) < len(found) and length < max(map(len, paths)):
    length += 1
    found = ["/".join(path[-length:]) for path in paths]
  return found


def row(run: Run, name: str = "", metric: str = "top1") -> Row:
  """The figures of a run's newest evaluation."""
  found = run.evaluation
  score = found.metrics.get(metric) if found else None
  clips = int(found.metrics.get("num_clips", 0)) if found else 0
  ends = wilson_interval(round(score * clips), clips) if score is not None and clips and metric == "top1" else None
  _, rates = run.series("train", "clips_per_s")
  rate = float(np.nanmedian(rates)) if np.isfinite(rates).any() else None
  parameters, gflop, seconds, peak_mib = (run.result.get(key) for key in _PLAIN)
  model, split = str(run.setting("model.name") or "?"), found.split if found else ""
  return Row(name or run.name, model, parameters, gflop, rate, seconds, peak_mib, metric, score, ends, split)


def groups(runs: Sequence[Run]) -> list[Group]:
  """The runs by config without its seeds, the best first; runs whose config is not known stand alone."""
  metric, together = main_metric(runs), dict[str, list[tuple[str, Run]]]()
  for name, run in zip(names(runs), runs, strict=True):
    config = {key: value for key, value in flat(run.config).items() if key not in SEEDS}
    together.setdefault(digest(config) if config else name, []).append((name, run))
  found = [_group([n for n, _ in each], [run for _, run in each], metric) for each in together.values()]
  sign = 1 if metric == "loss" else -1
  return sorted(found, key=lambda group: float("inf") if group.mean is None else sign * group.mean)


def columns(metric: str) -> tuple[str, ...]:
  """Of `cells`."""
  score = "top-1 (95 %)" if metric == "top1" else metric
  return ("run", "model", "parameters", "GFLOP per clip", "clips/s", "training", score, "split")


def cells(found: Row) -> list[str]:
  """A row as text, one cell per column of `columns`."""
  form = "{:.1%}" if headline.is_fraction(found.metric) else "{:.4g}"
  low_high = f" ({found.interval[0]:.1%}-{found.interval[1]:.1%})" if found.interval else ""
  return [
    found.run,
    found.model,
    _text(found.parameters, "{:,}"),
    _text(found.gflop, "{:.3g}"),
    _text(found.clips_per_s, "{:.0f}"),
    _text(found.seconds, "{:.0f} s"),
    _text(found.score, form) + low_high,
    found.split,
  ]


def group_line(group: Group) -> str:
  """The mean of several seeds in one line."""
  if group.mean is None:
    return f"{group.name}: {len(group.runs)} seeds without a score"
  text = headline.percent if headline.is_fraction(group.rows[0].metric) else headline.number
  ends = f", 95 % (t): {text(group.interval[0])} to {text(group.interval[1])}" if group.interval else ""
  return f"{group.name}: mean of {len(group.runs)} seeds {text(group.mean)}{ends}"


def markdown(found: Sequence[Group]) -> str:
  """Runs as a table, the best group first; below it how their configs differ."""
  rows = [row for group in found for row in group.rows]
  table = markdown_table(columns(rows[0].metric), [cells(row) for row in rows])
  changes = differences([run for group in found for run in group.runs])
  if not changes:
    return table
  changed = [[key, *map(setting, values)] for key, values in changes.items()]
  return table + "\n" + markdown_table(["key", *(row.run for row in rows)], changed)


def csv(found: Sequence[Group]) -> str:
  """One line per run with all that was measured on its split, and the keys in which the configs differ."""
  runs = [run for group in found for run in group.runs]
  rows = [row for group in found for row in group.rows]
  changes = differences(runs)
  metrics = sorted({key for run in runs if run.evaluation for key in run.evaluation.metrics})
  head = ["run", "group", "model", "parameters", "gflop_per_clip", "clips_per_s", "train_seconds", "peak_mib", "split"]
  of_run = {r.run: group.name for group in found for r in group.rows}
  lines = []
  for i, (run, r) in enumerate(zip(runs, rows, strict=True)):
    figures = run.evaluation.metrics if run.evaluation else {}
    plain = [r.run, of_run[r.run], r.model, r.parameters, r.gflop, r.clips_per_s, r.seconds, r.peak_mib, r.split]
    lines.append([*plain, *map(figures.get, metrics), *(values[i] for values in changes.values())])
  return csv_table([*head, *metrics, *changes], lines)


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
  """Dotted key -> its value in every run, of the keys that differ; None where a run lacks it."""
  configs = [flat(run.config) for run in runs]
  keys = sorted({key for config in configs for key in config})
  found = {key: [config.get(key) for config in configs] for key in keys}
  return {key: values for key, values in found.items() if any(v != values[0] for v in values[1:])}


def _group(run_names: Sequence[str], runs: Sequence[Run], metric: str) -> Group:
  rows = tuple(row(run, name, metric) for run, name in zip(runs, run_names, strict=True))
  scores = np.array([r.score for r in rows if r.score is not None], np.float64)
  ends, kind = (interval(scores), "t") if len(scores) > 1 else (next((r.interval for r in rows), None), "Wilson")
  mean = float(scores.mean()) if len(scores) else None
  return Group(_common(run_names), tuple(runs), rows, mean, ends, kind if ends else "")


def _common(run_names: Sequence[str]) -> str:
  """What the names begin with: "lstm" of "lstm/seed0" and "lstm/seed1"."""
  if len(run_names) == 1:
    return run_names[0]
  same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*run_names, strict=False))
  return re.sub(r"[\W_]*(seed|s)?[\W_]*$", "", "".join(letters[0] for letters in same)) or run_names[0]


def _text(value: Any, form: str) -> str:
  return "-" if value is None else form.format(value)
