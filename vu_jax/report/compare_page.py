"""The page that compares runs: one row per group of seeds, curves over each other, and how the configs differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vu_jax.report import headline, html, seed_curves
from vu_jax.report.compare import SEEDS, Group, differences, groups
from vu_jax.report.records import Run
from vu_jax.report.strips import Strip, scale
from vu_jax.report.svg import SERIES

_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Line:
  """A group as the page shows it; `strip` is None without a score."""

  group: Group
  role: str
  seeds: str
  strip: Strip | None
  score: str
  interval: str


def render(runs: Sequence[Run]) -> str:
  """The page of several runs, as HTML text."""
  found = groups(runs)
  metric = found[0].rows[0].metric
  lines = [_line(group, SERIES[i % len(SERIES)], metric) for i, group in enumerate(found)]
  fraction = headline.is_fraction(metric)
  values = dict(
    title=" · ".join(line.group.name for line in lines) if len(lines) < 4 else f"{len(runs)} runs",
    metric=headline.metric_name(metric),
    splits=sorted({row.split for group in found for row in group.rows if row.split}),
    count=len(runs),
    lines=lines,
    scale=scale([line.strip for line in lines if line.strip], lambda v: f"{100 * v:g} %" if fraction else f"{v:g}"),
    panels=_panels(found, metric),
    several=any(len(group.runs) > 1 for group in found),
    spread=seed_curves.SPREAD,
    changes=_changes(found),
    setting=html.setting,
  )
  return html.page("compare", values)


def _line(group: Group, role: str, metric: str) -> Line:
  fraction = headline.is_fraction(metric)
  text = headline.percent if fraction else headline.number
  ends = group.interval
  return Line(
    group=group,
    role=role,
    seeds=", ".join(str(run.config.get("seed", "?")) for run in group.runs),
    strip=None if group.mean is None else Strip(group.mean, ends, group.scores),
    score="–" if group.mean is None else text(group.mean),
    interval="–" if ends is None else headline.interval(ends) if fraction else f"{text(ends[0])}–{text(ends[1])}",
  )


def _panels(found: Sequence[Group], metric: str) -> list[seed_curves.Panel]:
  seen = {row["split"] for group in found for run in group.runs for row in run.rows}
  split = next((split for split in _SPLITS if split in seen), "validation")
  return seed_curves.panels([(group.name, [run.rows for run in group.runs]) for group in found], metric, split)


def _changes(found: Sequence[Group]) -> list[tuple[str, list[Any]]]:
  """Keys that differ between groups, with a value per group; seeds have their own column."""
  changes = differences([group.runs[0] for group in found])
  return [(key, values) for key, values in changes.items() if key not in SEEDS]
