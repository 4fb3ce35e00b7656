"""Builds a dataset and says what is in it; with --preview, also shows what augmentation makes of it.

python -m experiments.prepare --config=configs/my_videos.py --config.data.root=/path/to/videos [--preview[=FILE]]

The same command continues a preparation that was stopped. Large sets are prepared in shards, by hand on many machines
with one disk (--shard=2/3), or by jobs: --jobs=3, on Slurm --jobs=64 --cluster=slurm --slurm=partition=cpu,time=600.
"""

import argparse
import pathlib
import re
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.cli import Arguments, console, run
from experiments.cluster import need_submitit, parse_slurm
from experiments.prepare_jobs import prepare_by_jobs
from experiments.preview import preview
from experiments.progress import progress_bar
from experiments.running.assemble import Experiment, assemble
from experiments.running.dataset import prepared, saying
from vu_jax.config import load
from vu_jax.data.parts import parse_shard
from vu_jax.data.prepare import check_stored, prepare_shard, shards_text
from vu_jax.errors import UserError

IN_DATASET = pathlib.Path()  # --preview without a file
LISTED = 20  # rejected files that are printed one by one


def main() -> None:
  parser = Arguments(prog="experiments.prepare", description=__doc__.splitlines()[0])
  parser.add_config()
  parser.add_data_dir()
  text = "also write a page of clips as training sees them (default: preview.html beside the prepared dataset)"
  parser.add_argument("--preview", type=pathlib.Path, nargs="?", const=IN_DATASET, metavar="FILE", help=text)
  parser.add_argument("--store", help="form of the stored clips, as --config.data.store: intra, jpeg, source or raw")
  add_shards(parser)
  args, overrides = parser.read()
  check_shards(args)
  if args.store:
    overrides["data.store"] = args.store
  screen, experiment = console(), assemble(load(args.config, overrides))
  if args.preview and args.preview != IN_DATASET:
    check_new(args.preview)
  if not is_whole(args, experiment, screen):
    return
  directory, facts = prepared(experiment.names["data"], experiment.data, args.data_dir, screen, take_over=True)
  show(facts, screen)
  screen.print(f"prepared: {directory}")
  if args.preview:
    target = directory / "preview.html" if args.preview == IN_DATASET else args.preview
    check_new(target)
    check_stored(facts, experiment.clip, experiment.pixels, experiment.audio)
    preview(experiment, directory, facts, target)
    screen.print(f"preview: {target}")


def add_shards(parser: argparse.ArgumentParser) -> None:
  some = parser.add_mutually_exclusive_group()
  some.add_argument("--shard", metavar="I/N", help="prepare only the I-th of N shards; the last one completes the set")
  some.add_argument("--jobs", type=int, metavar="N", help="let N jobs prepare one shard each (extra [sweep])")
  parser.add_argument("--cluster", choices=("local", "slurm"), help="where the jobs run (default: local)")
  text = "what sbatch is told, such as partition=cpu,time=600,cpus_per_task=16 (default: time=1440,cpus_per_task=8)"
  parser.add_argument("--slurm", metavar="KEY=VALUE,...", help=text)


def check_shards(args: argparse.Namespace) -> None:
  """Raises UserError for arguments that contradict each other."""
  if args.shard is not None:
    parse_shard(args.shard)
  if args.jobs is not None and args.jobs < 1:
    raise UserError(f"--jobs={args.jobs}: must be at least 1")
  if args.cluster and args.jobs is None:
    raise UserError(f"--cluster={args.cluster} says where jobs run: give their number, as with --jobs=8")
  if args.slurm is not None and args.cluster != "slurm":
    raise UserError(f"--slurm={args.slurm} is for jobs on Slurm: give --jobs=N --cluster=slurm too")
  if args.jobs is not None:
    need_submitit("--jobs")
  if args.preview and (args.shard or args.cluster == "slurm"):
    raise UserError("--preview needs the whole dataset: leave it out, and give it again when all shards are there")


def is_whole(args: argparse.Namespace, experiment: Experiment, screen: Console) -> bool:
  """Does what --shard or --jobs ask for; whether nothing is missing after that."""
  name, options, say = experiment.names["data"], experiment.data, saying(screen)
  if args.jobs:
    slurm = parse_slurm(args.slurm or "")
    with progress_bar(screen, "prepare", "clips") as progress:
      return prepare_by_jobs(name, options, args.data_dir, args.jobs, args.cluster or "local", slurm, progress, say)
  if args.shard:
    shard = parse_shard(args.shard)
    with progress_bar(screen, f"shard {shard}", "clips") as progress:
      missing = prepare_shard(name, options, args.data_dir, shard, progress, say)
    if missing:
      say(f"shard {shard} is prepared; {shards_text(missing)} missing until the dataset is complete")
    return not missing
  return True


def check_new(file: pathlib.Path) -> None:
  """Raises UserError if the page would overwrite something, or its folder is missing."""
  if file.exists():
    raise UserError(f"--preview: {file} exists already; name another with --preview=FILE, or remove it")
  if not file.parent.is_dir():
    raise UserError(f"--preview={file}: there is no folder {file.parent}")


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
  for split, about in facts["splits"].items():
    if sound := about.get("sound"):
      size = f"{sound['bytes'] / 2**20:.1f} MiB"
      screen.print(f"sound: {sound['clips']} of {about['clips']} {split} clips, {size}")
  labels = facts["labels"]
  more = f" and {len(labels) - 30} more" if len(labels) > 30 else ""
  screen.print("classes: " + ", ".join(labels[:30]) + more, markup=False)
  show_rejected(facts["rejected"], screen)


def show_rejected(rejected: list[dict[str, str]], screen: Console) -> None:
  """Each rejected file with its reason; where they are many, how many there are of each kind of reason."""
  if len(rejected) <= LISTED:
    for item in rejected:
      screen.print(f"rejected {item['id']}: {item['reason']}", markup=False)
    return
  kinds: dict[str, list[dict[str, str]]] = {}
  for item in rejected:
    kinds.setdefault(re.sub(r"\d+", "0", item["reason"]), []).append(item)  # numbers make no other kind
  screen.print(f"rejected {len(rejected)} files, all listed in facts.json:")
  largest = sorted(kinds.values(), key=len, reverse=True)
  for found in largest[:LISTED]:
    screen.print(f"{len(found):>8}  {found[0]['reason']}  (first: {found[0]['id']})", markup=False)
  if rest := sum(map(len, largest[LISTED:])):
    screen.print(f"{rest:>8}  of {len(largest) - LISTED} other kinds")


if __name__ == "__main__":
  run(main)
