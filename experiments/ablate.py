"""Compares variants of an experiment with it: which of these matters, and is it sure?

python -m experiments.ablate --config=configs/motion_convlstm.py --seeds=3 [--only="GRU,one layer"]
    [--vary model.name=frame_cnn,cnn_rnn] [--cross] [--config.KEY=VALUE ...] [--workdir=ablations/NAME] [--dry_run]

The variants are those that the config file names in get_ablations(), or one per value of --vary. The same command
continues an ablation that was stopped; started several times at once, on one machine or on many with one disk, it
shares the work. Other commands with the same --workdir add seeds and variants.
"""

import argparse
import pathlib
import shlex
import sys
from typing import get_args

from rich.console import Console

from experiments.ablations.plan import CLAIMS, Plan, Wish
from experiments.ablations.variants import (
  SEED,
  Values,
  Variant,
  baseline,
  check_variants,
  chosen,
  named_values,
  own,
  variant_of,
  varied_values,
)
from experiments.ablations.work import work
from experiments.cli import Arguments, console, run
from experiments.running.assemble import run_name
from vu_jax.data.claims import WHOLE, Claims
from vu_jax.errors import UserError
from vu_jax.report.ablation import load_ablation
from vu_jax.report.ablation_page import write_ablation_page
from vu_jax.report.ablation_table import change_lines, csv_text, markdown_text, rich_table
from vu_jax.report.paired import Kind


def main() -> None:
  parser = arguments()
  args, typed = parser.read()
  check(args)
  screen, workdir = console(), args.workdir or pathlib.Path("ablations") / run_name(args.config)
  variants = all_variants(args, typed, screen)
  first = variants[0].experiment.seed
  words = shlex.join(["python", "-m", "experiments.ablate", *sys.argv[1:]])
  seeds = range(first, first + args.seeds)
  wish = Wish(args.config, typed, words, variants, seeds, args.batch, args.interval)
  if args.dry_run:
    return announce(Plan(workdir, wish), screen)
  workdir.mkdir(parents=True, exist_ok=True)
  with Claims(workdir / CLAIMS) as claims:
    with claims.held(WHOLE, lambda: None):
      plan = Plan(workdir, wish)
      plan.write()
    announce(plan, screen)
    work(plan, claims, args.data_dir, screen)
  return report(workdir, args, screen)


def arguments() -> Arguments:
  parser = Arguments(prog="experiments.ablate", description=__doc__.splitlines()[0])
  parser.add_config()
  parser.add_argument("--seeds", type=int, default=3, help="runs of each variant, from config.seed on (default: 3)")
  parser.add_argument("--only", metavar="A,B", help="of the named variants only these")
  text = "a variant for each value of a key; may be given several times. Named variants then need --only"
  parser.add_argument("--vary", action="append", default=[], metavar="KEY=A,B,C", help=text)
  parser.add_argument("--cross", action="store_true", help="all combinations of several --vary")
  parser.add_argument("--batch", type=int, default=8, metavar="P", help="runs trained at once, at most (default: 8)")
  parser.add_argument("--interval", choices=get_args(Kind), default="t", help="of the means over seeds (default: t)")
  text = "directory of the ablation (default: ablations/<config name>)"
  parser.add_argument("--workdir", type=pathlib.Path, help=text)
  parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="also write the table there")
  parser.add_argument("--csv", type=pathlib.Path, metavar="FILE", help="also write the table there")
  parser.add_argument("--dry_run", action="store_true", help="say what would be trained, and stop")
  parser.add_data_dir()
  return parser


def check(args: argparse.Namespace) -> None:
  """Raises UserError for arguments that cannot be, before anything takes time."""
  for name in ("seeds", "batch"):
    if getattr(args, name) < 1:
      raise UserError(f"--{name}={getattr(args, name)}: must be at least 1")
  if args.cross and len(args.vary) < 2:
    raise UserError("--cross combines several --vary: give at least two")
  for name in ("markdown", "csv"):
    file = getattr(args, name)
    if file and file.exists():
      raise UserError(f"--{name}: {file} exists already; name another, or remove it")


def all_variants(args: argparse.Namespace, typed: dict[str, str], screen: Console) -> list[Variant]:
  """The baseline and what is compared with it; a value of --vary that is the baseline's own is left out.

  Raises:
    UserError: a variant that cannot be, that changes nothing, or that is there twice; or there is none.
  """
  named = named_values(args.config)
  varied = varied_values(args.vary, args.cross)
  wanted: dict[str, Values] = chosen(named, args.only) if args.only else {} if args.vary else named
  for name in wanted.keys() & varied.keys():
    raise UserError(f'variant "{name}" is both in --vary and in get_ablations(): leave out one of them')
  base = baseline(args.config, typed)
  found = [variant_of(args.config, base, name, values) for name, values in wanted.items()]
  for name, values in varied.items():
    variant = variant_of(args.config, base, name, values)
    if variant.changes:
      found.append(variant)
    else:
      screen.print(f"{name} is the baseline", markup=False)
  if not found:
    raise UserError(f"there is nothing to compare: {args.config} names no variants in get_ablations(); give --vary")
  check_variants(base, found)
  return [base, *found]


def announce(plan: Plan, screen: Console) -> None:
  """Says what will be trained, and which runs together."""
  wish = plan.wish
  base, *others = wish.variants
  number = len(wish.variants) * len(wish.seeds)
  screen.print(f"ablation   {wish.config}: {len(wish.variants)} variants x {len(wish.seeds)} seeds = {number} runs")
  for variant in others:
    typed = ", ".join(f"{key}={text}" for key, text in own(base, variant).items() if key != SEED)
    screen.print(f"  variant  {variant.name}: {typed}", markup=False, soft_wrap=True)
  sizes = ", ".join(str(len(runs)) for runs in plan.groups.values())
  screen.print(f"  trained  in {len(plan.groups)} groups of {sizes} runs, each group at once", soft_wrap=True)
  screen.print(f"   output  {plan.directory}", markup=False)


def report(workdir: pathlib.Path, args: argparse.Namespace, screen: Console) -> None:
  """Prints the table and what belongs to it, and writes it as Markdown, CSV and a page.

  Raises:
    UserError: every run failed.
  """
  found = load_ablation(workdir)
  screen.print(rich_table(found))
  for line in (*change_lines(found), *found.notes):
    screen.print(line, markup=False, soft_wrap=True)
  for file, text in ((workdir / "table.md", markdown_text(found)), (workdir / "table.csv", csv_text(found))):
    file.write_text(text)
    copy = args.markdown if file.suffix == ".md" else args.csv
    if copy:
      copy.write_text(text)
  page = write_ablation_page(workdir)
  screen.print(f"report: {page}   table: {workdir / 'table.md'}   {workdir / 'table.csv'}", markup=False)
  runs = [run for variant in found.variants for run in variant.runs]
  if all(run.state == "failed" for run in runs):
    raise UserError(f"all {len(runs)} runs failed; the first one: {runs[0].reason}")


if __name__ == "__main__":
  run(main)
