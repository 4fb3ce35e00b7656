"""The trials of a sweep as tables: for the terminal, Markdown and CSV."""

from vu_jax.report import headline, html
from vu_jax.report.study import Study, Trial
from vu_jax.report.tables import csv_table, markdown_table

_BEST = 10


def best(study: Study, most: int = _BEST) -> tuple[list[str], list[list[str]]]:
  """Columns and rows of the best trials: number, value, parameters, state."""
  keys = study.keys()
  return ["trial", study.metric, *keys, "state"], [_cells(study, trial, keys) for trial in study.ranked()[:most]]


def markdown(study: Study) -> str:
  """The best trials and how to run them again."""
  commands = [[str(trial.number), f"`{trial.command}`"] for trial in study.ranked()[:_BEST] if trial.command]
  return "\n".join([markdown_table(*best(study)), markdown_table(["trial", "command"], commands)])


def csv(study: Study) -> str:
  """All trials, in full precision."""
  keys = study.keys()
  columns = ["trial", "state", study.metric, *keys, "seconds", "evaluations", "reason", "run", "command"]
  rows = [
    [t.number, t.state, t.value, *map(t.params.get, keys), t.seconds, len(t.curve), t.reason, t.run, t.command]
    for t in study.trials
  ]
  return csv_table(columns, rows)


def shown(study: Study, value: float) -> str:
  """The objective as a reader writes it: shares in percent."""
  return headline.percent(value) if headline.is_fraction(study.metric) else headline.number(value)


def _cells(study: Study, trial: Trial, keys: list[str]) -> list[str]:
  settings = [html.setting(trial.params[key]) if key in trial.params else "–" for key in keys]
  return [str(trial.number), shown(study, trial.value or 0.0), *settings, trial.state]
