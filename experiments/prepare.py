"""Builds a dataset and says what is in it; with --preview, also shows what augmentation makes of it.

python -m experiments.prepare --config=configs/my_videos.py --config.data.root=/path/to/videos [--preview[=FILE]]
"""

import pathlib
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.assemble import Experiment, assemble
from experiments.cli import Arguments, console, run
from experiments.preview import preview
from vu_jax.config import load
from vu_jax.data.prepare import check_stored, prepare, read_facts
from vu_jax.errors import UserError

IN_DATASET = pathlib.Path()  # --preview without a file


def main() -> None:
  parser = Arguments(prog="experiments.prepare", description=__doc__.splitlines()[0])
  parser.add_config()
  parser.add_data_dir()
  text = "also write a page of clips as training sees them (default: preview.html beside the prepared dataset)"
  parser.add_argument("--preview", type=pathlib.Path, nargs="?", const=IN_DATASET, metavar="FILE", help=text)
  parser.add_argument("--store", help="form of the stored clips, as --config.data.store: intra, jpeg, source or raw")
  args, overrides = parser.read()
  if args.store:
    overrides["data.store"] = args.store
  screen, experiment = console(), assemble(load(args.config, overrides))
  if args.preview and args.preview != IN_DATASET:
    check_new(args.preview)
  directory, facts = prepared(experiment, args.data_dir, screen)
  show(facts, screen)
  screen.print(f"prepared: {directory}")
  if args.preview:
    target = directory / "preview.html" if args.preview == IN_DATASET else args.preview
    check_new(target)
    check_stored(facts, experiment.clip, experiment.pixels)
    preview(experiment, directory, facts, target)
    screen.print(f"preview: {target}")


def check_new(file: pathlib.Path) -> None:
  """Raises UserError if the page would overwrite something, or its folder is missing."""
  if file.exists():
    raise UserError(f"--preview: {file} exists already; name another with --preview=FILE, or remove it")
  if not file.parent.is_dir():
    raise UserError(f"--preview={file}: there is no folder {file.parent}")


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
  if "psnr_db" in facts:
    screen.print(
      f"quality: {facts['psnr_db']:.1f} dB PSNR against the scaled source (mean over one frame of each clip)"
    )
  labels = facts["labels"]
  more = f" and {len(labels) - 30} more" if len(labels) > 30 else ""
  screen.print("classes: " + ", ".join(labels[:30]) + more, markup=False)
  for item in facts["rejected"][:20]:
    screen.print(f"rejected {item['id']}: {item['reason']}", markup=False)
  if len(facts["rejected"]) > 20:
    screen.print(f"and {len(facts['rejected']) - 20} more rejected files, listed in facts.json")


if __name__ == "__main__":
  run(main)
