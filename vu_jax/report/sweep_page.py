"""The page of a sweep: what was best, what mattered, and how every trial went."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vu_jax.report import headline, html
from vu_jax.report.curves import Curve, Panel, Unit, curves_figure, log_if_wide, percent_tick, scale_axis, tick_text
from vu_jax.report.headline import Fact
from vu_jax.report.parallel import Coordinate, Line, coordinate, numeric, parallel_figure, ranks
from vu_jax.report.study import STATES, Study, Trial, load_study
from vu_jax.report.svg import COLOUR, RANKS, draw
from vu_jax.report.sweep_tables import shown

_BEST = 10  # rows that stand open
_MOST_LINES = 400  # more cannot be told apart


@dataclass(frozen=True)
class Entry:
  """A row of the table of trials: its value as text, and its parameters in the order of the columns."""

  trial: Trial
  value: str
  role: str
  settings: tuple[str, ...]


def write_sweep_page(directory: pathlib.Path) -> pathlib.Path:
  """Writes report.html of a sweep, done or not, and returns its path.

  Raises:
    UserError: the directory holds no sweep, or a damaged one.
  """
  return html.write_page(directory / "report.html", render(load_study(directory)))


def render(study: Study) -> str:
  """The page of a sweep, as HTML text."""
  keys, roles = study.keys(), _roles(study)
  finished = sorted((t for t in study.trials if t.value is not None), key=lambda t: (study.loss(t), t.number))
  best = next(iter(study.ranked()), None)
  values = dict(
    title=study.name,
    study=study,
    subject=_subject(study),
    best=best,
    best_value=shown(study, best.value) if best and best.value is not None else "–",
    metric=headline.metric_name(study.metric),
    facts=facts(study),
    keys=keys,
    setting=html.setting,
    parallel=_parallel(study, keys, roles),
    importance=[(key, study.importance[key]) for key in keys if key in study.importance],
    panels=[*_history(study, roles), *_curves(study, roles)],
    entries=[_entry(study, trial, keys, roles) for trial in finished],
    most=_BEST,
    failed=[trial for trial in study.trials if trial.state == "failed"],
    ranks=RANKS,
  )
  return html.page("sweep", values, script="sweep.js")


def facts(study: Study) -> list[Fact]:
  """How many trials ended how, and what they took."""
  found = [Fact(state.capitalize(), f"{study.count(state):,}") for state in STATES]
  seconds = [trial.seconds for trial in study.trials if trial.seconds]
  if seconds:
    found.append(Fact("Longest trial", headline.duration(max(seconds)), "with those trained beside it"))
  return [*found, Fact("Searched keys", str(len(study.space)))]


def _subject(study: Study) -> str:
  more = "more is better" if study.maximise else "less is better"
  trials = (
    f"{len(study.trials)} trials"
    if len(study.trials) >= study.planned
    else f"{len(study.trials)} of {study.planned} trials"
  )
  return f"{study.config} · {trials} · {headline.metric_name(study.metric)} of {study.split}, {more}"


def _roles(study: Study) -> dict[int, str]:
  """Trial -> its colour: complete ones by rank of the objective, pruned ones as the lowest."""
  found = ranks({trial.number: study.loss(trial) for trial in study.ranked()}, len(RANKS))
  return {trial.number: RANKS[found.get(trial.number, 0)] for trial in study.trials}


def _entry(study: Study, trial: Trial, keys: Sequence[str], roles: dict[int, str]) -> Entry:
  settings = tuple(html.setting(trial.params[key]) if key in trial.params else "" for key in keys)
  return Entry(trial, shown(study, trial.value or 0.0), roles[trial.number], settings)


def _unit(study: Study, curves: Sequence[Curve]) -> Unit:
  return "percent" if headline.is_fraction(study.metric) else log_if_wide(curves)


def _parallel(study: Study, keys: Sequence[str], roles: dict[int, str]) -> Markup | None:
  """The best lie on top; the last axis is the objective."""
  scored = sorted((t for t in study.trials if t.value is not None), key=lambda t: (t.state != "pruned", -study.loss(t)))
  scored = scored[-_MOST_LINES:]
  if not scored:
    return None
  dimensions = {each.key: each for each in study.space}
  axes = [*(coordinate(dimensions[key]) for key in keys), _objective(study, scored)]
  lines = [
    Line(f"trial-{t.number}", [*map(t.params.get, keys), t.value], roles[t.number], t.state == "pruned") for t in scored
  ]
  return Markup(parallel_figure("parallel", axes, lines))


def _objective(study: Study, trials: Sequence[Trial]) -> Coordinate:
  values = np.array([trial.value for trial in trials], np.float64)
  fraction = headline.is_fraction(study.metric)
  log = not fraction and log_if_wide([Curve("train", values, values)]) == "log"
  text = percent_tick if fraction else tick_text
  return numeric(study.metric, float(values.min()), float(values.max()), log=log, text=text)


def _history(study: Study, roles: dict[int, str]) -> list[Panel]:
  """The objective over trials in the order in which they began, and the best so far as a step line."""
  scored = [trial for trial in study.trials if trial.value is not None]
  complete = [trial for trial in scored if trial.state == "complete"]
  if not complete:
    return []
  numbers = np.array([trial.number for trial in complete], np.float64)
  losses = np.minimum.accumulate([study.loss(trial) for trial in complete])
  best = -losses if study.maximise else losses
  values = np.array([trial.value for trial in scored], np.float64)
  unit = _unit(study, [Curve("train", values, values)])

  def paint(figure: Figure) -> None:
    axes = figure.add_axes((0.115, 0.1, 0.865, 0.87))
    axes.step([*numbers, study.trials[-1].number], [*best, best[-1]], where="post", color=COLOUR["test"], linewidth=1.4)
    for trial in scored:
      _paint_point(axes, trial, COLOUR[roles[trial.number]])
    scale_axis(axes.yaxis, axes.set_yscale, unit, 5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.03)

  svg = draw(paint, "history", f"{study.metric} of every trial and the best so far", 380.0, 235.0)
  return [Panel("Objective by trial", Markup(svg), (("test", "best so far"), (RANKS[-1], "trial")), "hollow: pruned")]


def _paint_point(axes: Axes, trial: Trial, colour: str) -> None:
  fill = "none" if trial.state == "pruned" else colour
  points: dict[str, Any] = dict(marker="o", markersize=6.5, linestyle="none", markeredgecolor=colour)
  (drawn,) = axes.plot([trial.number], [trial.value or 0.0], markerfacecolor=fill, **points)
  drawn.set_gid(f"trial-{trial.number}")


def _curves(study: Study, roles: dict[int, str]) -> list[Panel]:
  """What the pruner saw: the objective after every evaluation, pruned trials dashed, the best on top."""
  order = sorted(study.trials, key=lambda t: (t.state == "complete", -study.loss(t)))[-_MOST_LINES:]
  curves = [
    Curve(
      role=roles[t.number],
      steps=points[:, 0],
      values=points[:, 1],
      faint=t.state != "complete",
      mark=f"trial-{t.number}",
    )
    for t in order
    if len(points := np.array(t.curve, np.float64).reshape(-1, 2))
  ]
  if not any(len(curve.steps) > 1 for curve in curves):
    return []
  svg = curves_figure("curves", f"{study.metric} of all trials", curves, unit=_unit(study, curves))
  return [Panel("Evaluations while training", Markup(svg), (), "over steps; dashed: not completed")]
