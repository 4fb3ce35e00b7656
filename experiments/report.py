"""Compares runs: their figures side by side, and how their configs differ.

python -m experiments.report runs/A runs/B ... [--markdown=FILE]

Writes each run's own page again, report.html in its directory.
"""

import pathlib

from rich.table import Table

from experiments.cli import Arguments, console, run
from vu_jax.errors import UserError
from vu_jax.report.compare import COLUMNS, cells, differences, markdown, row
from vu_jax.report.page import write_report
from vu_jax.report.records import load_run


def main() -> None:
  parser = Arguments(prog="experiments.report", description=__doc__.splitlines()[0])
  parser.add_argument("runs", nargs="+", type=pathlib.Path, help="run directories")
  parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="also write the table there")
  args, _ = parser.read()
  if args.markdown and args.markdown.exists():
    raise UserError(f"--markdown: {args.markdown} exists already; name another, or remove it")
  screen, runs = console(), [load_run(path) for path in args.runs]
  rows = [row(found) for found in runs]
  table = Table()
  for column in COLUMNS:
    table.add_column(column, justify="left" if column in ("run", "model", "split") else "right")
  for found in rows:
    table.add_row(*cells(found))
  screen.print(table)
  for key, values in differences(runs).items():
    screen.print(f"{key}: " + ", ".join(map(str, values)), markup=False, soft_wrap=True)
  if args.markdown:
    args.markdown.write_text(markdown(rows) + "\n")
    screen.print(f"table: {args.markdown}")
  for path in args.runs:
    write_report(path)


if __name__ == "__main__":
  run(main)
