"""Compares runs: their figures side by side, their curves, and how their configs differ; or writes a page again.

python -m experiments.report runs/A runs/B ... [--html=FILE] [--markdown=FILE] [--csv=FILE]

Runs that differ by their seed only count as one, with the spread of the seeds. Each run's own page, report.html in its
directory, is written again; so is that of a sweep or an ablation, whose directory stands alone.
"""

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from experiments.cli import Arguments, console, run
from vu_jax.errors import UserError
from vu_jax.report import (
  ablation,
  ablation_page,
  ablation_table,
  compare,
  compare_page,
  page,
  study,
  sweep_page,
  sweep_tables,
)
from vu_jax.report.html import setting
from vu_jax.report.records import load_run


@dataclass(frozen=True)
class Texts:
  """The same records as three kinds of text; a kind is made when it is asked for."""

  html: Callable[[], str]
  markdown: Callable[[], str]
  csv: Callable[[], str]


def main() -> None:
  parser = Arguments(prog="experiments.report", description=__doc__.splitlines()[0])
  parser.add_argument("runs", nargs="+", type=pathlib.Path, help="directories of runs, or of one sweep or ablation")
  for kind, what in (("html", "page"), ("markdown", "tables"), ("csv", "figures, one line each")):
    parser.add_argument(f"--{kind}", type=pathlib.Path, metavar="FILE", help=f"also write the {what} there")
  args, _ = parser.read()
  targets = {kind: target for kind in ("html", "markdown", "csv") if (target := getattr(args, kind))}
  for kind, target in targets.items():
    if target.exists():
      raise UserError(f"--{kind}: {target} exists already; name another, or remove it")
  screen = console()
  texts = _texts(args.runs, screen)
  for kind, target in targets.items():
    target.write_text(getattr(texts, kind)(), encoding="utf-8")
    screen.print(f"{kind}: {target}", markup=False, soft_wrap=True)


def _texts(directories: Sequence[pathlib.Path], screen: Console) -> Texts:
  """Writes the pages that belong to the directories, and says what is in them."""
  batches = [d for d in directories if (d / study.FILE).is_file() or (d / ablation.FILE).is_file()]
  if not batches:
    return _runs(directories, screen)
  if len(directories) > 1:
    raise UserError(f"{batches[0]} is a sweep or an ablation; give it alone, or compare runs with runs")
  if (batches[0] / study.FILE).is_file():
    return _sweep(batches[0], screen)
  return _ablation(batches[0], screen)


def _runs(directories: Sequence[pathlib.Path], screen: Console) -> Texts:
  runs = [load_run(directory) for directory in directories]
  groups = compare.groups(runs)
  rows = [row for group in groups for row in group.rows]
  screen.print(_table(compare.columns(rows[0].metric), [compare.cells(row) for row in rows], ("run", "model", "split")))
  for group in groups:
    if len(group.runs) > 1:
      screen.print(compare.group_line(group), markup=False, soft_wrap=True)
  for key, values in compare.differences(runs).items():
    screen.print(f"{key}: " + ", ".join(map(setting, values)), markup=False, soft_wrap=True)
  for directory in directories:
    page.write_report(directory)
  return Texts(lambda: compare_page.render(runs), lambda: compare.markdown(groups), lambda: compare.csv(groups))


def _sweep(directory: pathlib.Path, screen: Console) -> Texts:
  found = study.load_study(directory)
  screen.print(_table(*sweep_tables.best(found), left=("state",)))
  screen.print(f"page: {sweep_page.write_sweep_page(directory)}", markup=False, soft_wrap=True)
  return Texts(lambda: sweep_page.render(found), lambda: sweep_tables.markdown(found), lambda: sweep_tables.csv(found))


def _ablation(directory: pathlib.Path, screen: Console) -> Texts:
  found = ablation.load_ablation(directory)
  screen.print(ablation_table.rich_table(found))
  screen.print(f"page: {ablation_page.write_ablation_page(directory)}", markup=False, soft_wrap=True)
  return Texts(
    lambda: ablation_page.render(found),
    lambda: ablation_table.markdown_text(found),
    lambda: ablation_table.csv_text(found),
  )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> Table:
  table = Table()
  for column in columns:
    table.add_column(column, justify="left" if column in left else "right")
  for cells in rows:
    table.add_row(*(cell.replace("[", "\\[") for cell in cells))
  return table


if __name__ == "__main__":
  run(main)
