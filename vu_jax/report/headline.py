"""The numbers that a reader wants first, worded: for the top of the page and for the end of a program."""

import math
import pathlib
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from vu_jax.report.paired import EVERYWHERE, Interval
from vu_jax.report.records import Evaluation, Run, load_run
from vu_jax.report.statistics import wilson_interval

_METRIC_NAMES = {
  "top1": "Top-1 accuracy",
  "top1_one_view": "Top-1 accuracy of single views",
  "top5": "Top-5 accuracy",
  "mean_per_class": "Mean per-class accuracy",
  "f1_macro": "Macro F1",
  "precision_macro": "Macro precision",
  "recall_macro": "Macro recall",
  "loss": "Loss",
}
_FRACTIONS = _METRIC_NAMES.keys() - {"loss"}


@dataclass(frozen=True)
class Fact:
  """One number in words, such as Fact("Top-5 accuracy", "98.0 %", "392 of 400 clips")."""

  name: str
  value: str
  note: str = ""


@dataclass(frozen=True)
class Score:
  """Top-1 accuracy with its Wilson 95 % interval, fractions; None where clips were not counted."""

  top1: float
  right: int | None
  clips: int | None
  interval: tuple[float, float] | None


def score(evaluation: Evaluation | None) -> Score | None:
  """The score of an evaluation; None where there is none, or where the task has no top-1 accuracy."""
  if evaluation is None or not math.isfinite(evaluation.metrics.get("top1", math.nan)):
    return None
  top1, clips = evaluation.metrics["top1"], int(evaluation.metrics.get("num_clips", 0))
  right = round(top1 * clips)
  if not clips:
    return Score(top1, None, None, None)
  return Score(top1, right, clips, wilson_interval(right, clips))


def metric_facts(evaluation: Evaluation | None) -> list[Fact]:
  """Every metric of an evaluation except top-1 accuracy and the number of clips: known ones first."""
  metrics = dict(evaluation.metrics) if evaluation else {}
  if "mean_per_class" in metrics:
    metrics.pop("recall_macro", None)  # the same number under another name
  order = [key for key in _METRIC_NAMES if key in metrics] + [key for key in metrics if key not in _METRIC_NAMES]
  return [
    Fact(metric_name(key), percent(metrics[key]) if key in _FRACTIONS else number(metrics[key]))
    for key in order
    if key not in ("top1", "num_clips")
  ]


def cost_facts(run: Run) -> list[Fact]:
  """Size, time and speed of the run, as far as recorded."""
  speeds = run.series("train", "clips_per_s")[1]
  facts = []
  if "parameters" in run.result:
    facts.append(Fact("Parameters", f"{run.result['parameters']:,}"))
  if "train_seconds" in run.result:
    facts.append(Fact("Training time", duration(float(run.result["train_seconds"]))))
  if np.isfinite(speeds).any():
    facts.append(Fact("Clips per second", number(float(np.nanmedian(speeds))), "median while training"))
  return facts


def summary_table(run_dir: pathlib.Path) -> Table:
  """A small table of metric and value, which a program prints when the run has ended."""
  run = load_run(run_dir)
  table = Table("metric", "value", title=run.name, title_justify="left")
  result = score(run.evaluation)
  if run.evaluation and result:
    span = f"  (95 %: {interval(result.interval)}, {result.clips} clips)" if result.interval else ""
    table.add_row(f"{run.evaluation.split} top-1 accuracy", percent(result.top1) + span)
  for fact in metric_facts(run.evaluation):
    table.add_row(f"{run.evaluation.split} {fact.name.lower()}" if run.evaluation else fact.name, fact.value)
  for fact in cost_facts(run):
    table.add_row(fact.name.lower(), fact.value)
  if run.evaluation and run.evaluation.protocol:
    table.add_row("protocol", run.evaluation.protocol)
  return table


def is_fraction(key: str) -> bool:
  """Whether a metric is a share, 0..1, which is shown as percent."""
  return key in _FRACTIONS


def value_range(key: str) -> Interval:
  """What a metric cannot leave."""
  return (0.0, 1.0) if is_fraction(key) else EVERYWHERE


def metric_name(key: str) -> str:
  return _METRIC_NAMES.get(key) or key.replace("_", " ").capitalize()


def percent(fraction: float) -> str:
  """93.5 % for 0.935; a dash for what was not measured."""
  return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else "–"


def interval(ends: tuple[float, float] | None) -> str:
  return f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f} %" if ends else "–"


def number(value: float) -> str:
  """Three or four digits that matter: 0.1234, 71.0, 1,234."""
  if not math.isfinite(value):
    return str(value)
  size = abs(value)
  return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"


def duration(seconds: float) -> str:
  """2 min 50 s for 170.2; the two largest units."""
  whole = round(seconds)
  if whole < 60:
    return f"{seconds:.1f} s"
  minutes, hours = whole // 60, whole // 3600
  if whole < 3600:
    return f"{minutes} min {whole % 60} s"
  return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
