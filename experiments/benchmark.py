"""Measures our ops, models and loader against what others have, side by side in one process.

python -m experiments.benchmark ops [--json=FILE] [--only=PATTERN] [--dtype=float32,bfloat16] [--lowerings] [--list]
python -m experiments.benchmark models [--json=FILE] [--only=PATTERN] [--dtype=float32,bfloat16] [--list]
python -m experiments.benchmark loader [--json=FILE] [--only=PATTERN] [--list]
python -m experiments.benchmark sweep [--videos=FOLDER] [--json=FILE] [--only=PATTERN] [--list]

A suite is a module with `cases(options) -> list[Row]` and one line in `SUITES`.
"""

import argparse
import importlib
import math
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.benchmarks.machine import Others, machine
from experiments.benchmarks.record import Store, make_record
from experiments.benchmarks.table import Record, cells, summary, tabulate
from experiments.benchmarks.timing import AbsentError, Entrant, Options, Row, enter, matmul_peak, measure
from experiments.cli import Arguments, console, run
from vu_jax.build import nearest
from vu_jax.errors import UserError

SUITES = {name: f"experiments.benchmarks.{name}.suite" for name in ("ops", "models", "loader", "sweep")}
DTYPES = ("float32", "bfloat16")


def main() -> None:
  args = arguments()
  screen = console()
  rows = choose(importlib.import_module(SUITES[args.suite]).cases(args.options), args.only)
  others = list(dict.fromkeys(name for row in rows for name in (row.baseline, *row.peers)))
  for name in args.without:
    if name not in others:
      raise UserError(f"--without={','.join(args.without)}: {name or 'nothing'} is none of {', '.join(others)}")
  if args.list:
    for row in rows:
      shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in row.shapes.items())
      screen.print(f"{row.kind}: {row.name}, {row.pass_} {row.dtype}   {shapes}", markup=False, soft_wrap=True)
    return
  store = Store(args.json) if args.json else None
  records: list[Record] = []
  try:
    for record in measured(args, rows, screen):
      records.append(record)
      if store:
        store.add(record)
  except KeyboardInterrupt:
    print(f"interrupted after {len(records)} of {len(rows)} rows", file=sys.stderr)
  finish(records, store, screen)
  if len(records) < len(rows):
    sys.exit(130)
  if not all(record["agrees"] and record["ours"] for record in records):
    sys.exit(1)


def arguments() -> argparse.Namespace:
  """The command line, checked; `options` is what the suite needs of it."""
  parser = Arguments(prog="experiments.benchmark", description=__doc__.splitlines()[0])
  parser.add_argument("suite", help="what to measure: " + ", ".join(SUITES))
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="keep records here, and a table in FILE.md")
  parser.add_argument("--only", metavar="PATTERN", help='regular expression found in "kind: name, pass dtype"')
  parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or both, with a comma")
  parser.add_argument("--seconds", type=float, default=0.3, help="time for each contender of a row (default: 0.3)")
  parser.add_argument("--lowerings", action="store_true", help="measure every lowering, not only the chosen one")
  parser.add_argument("--without", default="", help="contenders to leave out; some calls of xla take a minute")
  parser.add_argument("--torch_compile", action="store_true", help="let torch compile, which takes long")
  parser.add_argument("--videos", type=pathlib.Path, help="class folders of videos for the sweep (default: drawn ones)")
  parser.add_argument("--list", action="store_true", help="show the rows, measure nothing")
  args, _ = parser.read()
  if args.suite not in SUITES:
    known = nearest(args.suite, list(SUITES)) or f"; there is {', '.join(SUITES)}"
    raise UserError(f"unknown benchmark {args.suite}{known}")
  dtypes = args.dtype.split(",")
  for dtype in dtypes:
    if dtype not in DTYPES:
      raise UserError(f"--dtype={args.dtype}: {dtype or 'nothing'} is none of {', '.join(DTYPES)}")
  args.without = args.without.split(",") if args.without else []
  if not (0 < args.seconds < math.inf):
    raise UserError(f"--seconds={args.seconds:g}: must be above 0")
  args.options = Options(dtypes, args.lowerings, args.torch_compile, args.videos)
  return args


def choose(rows: Sequence[Row], pattern: str | None) -> list[Row]:
  """The rows that a pattern is found in; all of them without one."""
  try:
    wanted = re.compile(pattern or "", re.IGNORECASE)
  except re.error as error:
    raise UserError(f"--only={pattern}: is no regular expression: {error}") from error
  chosen = [row for row in rows if wanted.search(f"{row.kind}: {row.name}, {row.pass_} {row.dtype}")]
  if not chosen:
    raise UserError(f"--only={pattern}: matches none of the {len(rows)} rows (--list shows them)")
  return chosen


def measured(args: argparse.Namespace, rows: Sequence[Row], screen: Console) -> Iterator[Record]:
  """The rows' records, one after the other; shows what is under way and what was found."""
  facts = machine()
  with progress(len(rows), screen) as advance:
    advance("matmul peak", 0)
    peaks = {dtype: matmul_peak(dtype) for dtype in dict.fromkeys(row.dtype for row in rows if row.dtype in DTYPES)}
    where = facts["accelerator"] or f"{facts['cpu']}, {facts['cores']} cores"
    found = ", ".join(f"{dtype} {peak / 1e9:.0f} GFLOP/s" for dtype, peak in peaks.items())
    screen.print(f"{len(rows)} rows on {where}" + (f"; large matmul: {found}" if found else ""), markup=False)
    group: list[Record] = []
    for row, following in zip(rows, [*rows[1:], None], strict=True):
      advance(f"{row.name}, {row.pass_}", 0)
      record = measure_row(args.suite, row, args.seconds, peaks.get(row.dtype, math.inf), args.without)
      record |= {"machine": facts, "date": time.strftime("%Y-%m-%d %H:%M:%S")}
      yield record
      group.append(record)
      advance(row.name, 1)
      if not screen.is_terminal:
        screen.print("  ".join(cells(record)), markup=False, soft_wrap=True)
      elif following is None or following.kind != row.kind:
        screen.print(table(group))
        group = []


def measure_row(suite: str, row: Row, seconds: float, peak: float, without: Sequence[str]) -> Record:
  """Lets all contenders of a row in and times them; who cannot take part is named in the record."""
  entrants: dict[str, Entrant] = {}
  absent: dict[str, str] = {}
  for name, make in row.contenders().items():
    try:
      if name in without:
        raise AbsentError("left out")
      entrants[name] = enter(make)
    except AbsentError as error:
      absent[name] = str(error)
    except Exception as error:  # a contender that fails, whatever the reason, must not hold up the others
      absent[name] = f"failed: {type(error).__name__}: {next(iter(str(error).splitlines()), '')[:160]}"
  others = Others()
  timings = measure(entrants, seconds)
  return make_record(suite, row, entrants, timings, absent, peak) | {"others_frac": others.share()}


@contextmanager
def progress(total: int, screen: Console):
  """A bar while the rows are measured; called with what is under way and how many rows are new."""
  columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
  quiet = not screen.is_terminal
  with Progress(*columns, console=screen, transient=True, auto_refresh=False, disable=quiet) as bar:
    task = bar.add_task("", total=total)
    # Drawn only between measurements: a thread that draws meanwhile would take time from them.
    yield lambda text, new: bar.update(task, description=escape(text), advance=new, refresh=True)


def table(records: Sequence[Record]) -> Table:
  """The records of one kind for the terminal; red where we are behind, or where results differ."""
  shown = Table(title=records[0]["kind"], title_justify="left")
  heads, rows = tabulate(records)
  for column in heads:
    shown.add_column(column, justify="left" if column in ("name", "pass", "form") else "right")
  for record, row in zip(records, rows, strict=True):
    behind = record["ratio"] and record["ratio"] < 1
    style = "bold red" if not record["agrees"] else "red" if behind else None
    shown.add_row(*(escape(cell) for cell in row), style=style)
  return shown


def finish(records: Sequence[Record], store: Store | None, screen: Console) -> None:
  """Prints the summary and what was written."""
  if records:
    for line in summary(records):
      screen.print(line, markup=False, soft_wrap=True)
  if store and records:
    screen.print(f"wrote {store.path} and {store.table}", markup=False, soft_wrap=True)


if __name__ == "__main__":
  run(main)
