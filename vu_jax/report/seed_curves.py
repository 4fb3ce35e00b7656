"""Curves of runs that differ in their seed only: the mean, and how far the seeds lie apart."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vu_jax.report import headline
from vu_jax.report.curves import Curve, Panel, log_if_wide, panel
from vu_jax.report.records import Rows, series
from vu_jax.report.svg import SERIES

Seeds = Sequence[Rows]  # of each run its rows of metrics.jsonl
SPREAD = "line: mean of the seeds; area: from the lowest to the highest"


def panels(groups: Sequence[tuple[str, Seeds]], metric: str, split: str) -> list[Panel]:
  """The metric and the loss of a split, and the training loss; one curve per group.

  Args:
    groups: (label, its runs); colours follow their order, dashes mark those beyond the number of colours.
    metric: such as "top1". split: that was evaluated while training.
  """
  found = []
  for where, key in dict.fromkeys([(split, metric), (split, "loss"), ("train", "loss")]):
    curves = [
      c for i, (name, runs) in enumerate(groups) for c in over_seeds(runs, where, key, _role(i), name, _again(i))
    ]
    unit = "percent" if headline.is_fraction(key) else log_if_wide(curves)
    title = f"{headline.metric_name(key)}, {'training' if where == 'train' else where}"
    note = "logarithmic" if unit == "log" else ""
    found += panel(f"seeds-{where}-{key}", title, curves, unit=unit, note=note)
  return found


def over_seeds(runs: Seeds, split: str, key: str, role: str, label: str, faint: bool = False) -> list[Curve]:
  """One curve of the mean over the steps that all runs logged; none where no run has one.

  The spread goes from the lowest to the highest run, where there are several.
  """
  read = [series(rows, split, key) for rows in runs]
  read = [(steps, values) for steps, values in read if len(steps)]
  if not read:
    return []
  shared = read[0][0]
  for steps, _ in read[1:]:
    shared = np.intersect1d(shared, steps)
  table = np.stack([values[np.isin(steps, shared)] for steps, values in read])
  return [Curve(role, shared, table.mean(0), spread=_ends(table), band=True, label=label, faint=faint)]


def _ends(table: Float[np.ndarray, "runs n"]) -> Float[np.ndarray, "n 2"] | None:
  return np.stack([table.min(0), table.max(0)], 1) if len(table) > 1 else None


def _role(index: int) -> str:
  return SERIES[index % len(SERIES)]


def _again(index: int) -> bool:
  return index >= len(SERIES)
