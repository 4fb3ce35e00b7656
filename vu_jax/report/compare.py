"""Several runs side by side: one row each, and what their configs do not share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vu_jax.config import flat
from vu_jax.report.records import Run
from vu_jax.report.statistics import wilson_interval

COLUMNS = ("run", "model", "parameters", "GFLOP per clip", "clips/s", "training", "top-1 (95 %)", "split")
_OWN = ("model.", "data.root")  # what a row shows anyway, or where files lie


@dataclass(frozen=True)
class Row:
  """What a reader compares of one run; None where it was not recorded.

  gflop: of one clip forward, a multiply-add is two. clips_per_s: median of training. seconds: of the whole run.
  top1: share of right answers, with its 95 % interval, over the clips of `split`.
  """

  run: str
  model: str
  parameters: int | None
  gflop: float | None
  clips_per_s: float | None
  seconds: float | None
  top1: float | None
  interval: tuple[float, float] | None
  split: str


def row(run: Run) -> Row:
  """The figures of a run's newest evaluation."""
  found = run.evaluation
  top1 = found.metrics.get("top1") if found else None
  clips = found.metrics.get("num_clips") if found else None
  interval = wilson_interval(round(top1 * clips), int(clips)) if top1 is not None and clips else None
  _, rates = run.series("train", "clips_per_s")
  name = run.setting("model.name")
  return Row(
    run.name,
    str(name or "?"),
    run.result.get("parameters"),
    run.result.get("gflop_per_clip"),
    float(np.median(rates)) if len(rates) else None,
    run.result.get("train_seconds"),
    top1,
    interval,
    found.split if found else "",
  )


def cells(found: Row) -> list[str]:
  """A row as text, one cell per column of `COLUMNS`."""
  low_high = f" ({found.interval[0]:.1%}-{found.interval[1]:.1%})" if found.interval else ""
  return [
    found.run,
    found.model,
    _text(found.parameters, "{:,}"),
    _text(found.gflop, "{:.3g}"),
    _text(found.clips_per_s, "{:.0f}"),
    _text(found.seconds, "{:.0f} s"),
    _text(found.top1, "{:.1%}") + low_high,
    found.split,
  ]


def markdown(rows: Sequence[Row]) -> str:
  """A table, best first."""
  ranked = sorted(rows, key=lambda r: -1.0 if r.top1 is None else r.top1, reverse=True)
  lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
  return "\n".join([*lines, *("| " + " | ".join(c.replace("|", "\\|") for c in cells(r)) + " |" for r in ranked)])


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
  """Dotted key -> its value in every run, of the keys outside of the model that differ; None where a run lacks it."""
  configs = [flat(run.config) for run in runs]
  keys = sorted({key for config in configs for key in config if not key.startswith(_OWN)})
  found = {key: [config.get(key) for config in configs] for key in keys}
  return {key: values for key, values in found.items() if any(v != values[0] for v in values[1:])}


def _text(value: Any, form: str) -> str:
  return "-" if value is None else form.format(value)
