"""Builds a dataset and says what is in it.

python -m experiments.prepare --config=configs/my_videos.py --config.data.root=/path/to/videos
"""

import pathlib
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.assemble import Experiment, assemble
from experiments.cli import Arguments, console, run
from vu_jax.config import load
from vu_jax.data.prepare import prepare, read_facts


def main() -> None:
  parser = Arguments(prog="experiments.prepare", description=__doc__.splitlines()[0])
  parser.add_config()
  parser.add_data_dir()
  args, overrides = parser.read()
  screen = console()
  directory, facts = prepared(assemble(load(args.config, overrides)), args.data_dir, screen)
  show(facts, screen)
  screen.print(f"prepared: {directory}")


def prepared(experiment: Experiment, data_dir: pathlib.Path, screen: Console) -> tuple[pathlib.Path, dict[str, Any]]:
  """The prepared folder and its facts, built now with a progress bar if it is not there."""
  columns = (
    TextColumn("prepare"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("clips"),
    TimeRemainingColumn(),
  )
  with Progress(*columns, console=screen, transient=True) as bar:
    task = bar.add_task("prepare", total=None, visible=False)

    def progress(done: int, total: int) -> None:
      bar.update(task, completed=done, total=total, visible=True)

    directory = prepare(experiment.names["data"], experiment.data, data_dir, progress)
  return directory, read_facts(directory)


def show(facts: dict[str, Any], screen: Console) -> None:
  """Prints clips, classes, lengths, sizes and rejected files."""
  table = Table(title=f"{facts['name']}: {len(facts['labels'])} classes")
  for column in ("split", "clips", "per class", "frames", "fps", "size (px)", "length", "stored"):
    table.add_column(column, justify="left" if column == "split" else "right")
  for split, about in facts["splits"].items():
    counts, frames = about["classes"].values(), about["frames"]
    sizes = about["sizes_px"]
    table.add_row(
      split,
      str(about["clips"]),
      f"{min(counts)}-{max(counts)}",
      f"{frames['min']}-{frames['max']} (median {frames['median']:g})",
      ", ".join(f"{f:g}" for f in about["fps"][:3]) + (" ..." if len(about["fps"]) > 3 else ""),
      sizes[0][0] + (f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""),
      f"{about['seconds']:.0f} s",
      f"{about['bytes'] / 2**20:.1f} MiB",
    )
  screen.print(table)
  labels = facts["labels"]
  more = f" and {len(labels) - 30} more" if len(labels) > 30 else ""
  screen.print("classes: " + ", ".join(labels[:30]) + more, markup=False)
  for item in facts["rejected"][:20]:
    screen.print(f"rejected {item['id']}: {item['reason']}", markup=False)
  if len(facts["rejected"]) > 20:
    screen.print(f"and {len(facts['rejected']) - 20} more rejected files, listed in facts.json")


if __name__ == "__main__":
  run(main)
