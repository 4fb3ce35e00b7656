"""Evaluates a run again, on any of its dataset's splits, and renews its records and report.

python -m experiments.evaluate --run=runs/NAME [--split=test] [--views=10x3] [--average=logits]
"""

import dataclasses
import pathlib

from experiments.cli import Arguments, console, run
from experiments.running.announce import enable_compile_cache
from experiments.running.outcome import final_split, finish, read_result
from experiments.running.trained import open_run
from vu_jax.build import build
from vu_jax.data.prepare import FACTS, check_split, default_data_dir, read_facts
from vu_jax.data.protocol import Eval
from vu_jax.errors import UserError
from vu_jax.report.page import write_report
from vu_jax.train.distributed import connect, is_first


def main() -> None:
  parser = Arguments(prog="experiments.evaluate", description=__doc__.splitlines()[0])
  parser.add_argument("--run", type=pathlib.Path, required=True, help="run directory")
  parser.add_argument("--split", help="split of the run's dataset (default: test, else the run's eval_split)")
  parser.add_argument("--views", metavar="CLIPSxCROPS", help="views per video, such as 10x3 (default: the run's)")
  parser.add_argument("--average", help='"probabilities" or "logits" of the views (default: the run\'s)')
  parser.add_processes()
  args, _ = parser.read()
  connect(args.process, args.coordinator)
  screen = console()
  trained = open_run(args.run)
  if not (trained.directory / FACTS).is_file():
    raise UserError(
      f"--run={args.run}: its dataset is gone from {trained.directory}; launch or prepare builds it again"
    )
  facts = read_facts(trained.directory)
  split = args.split or final_split(facts["splits"], trained.experiment.train.eval_split)
  check_split(facts, split, "--split")
  enable_compile_cache(default_data_dir())
  finish(trained, args.run, split, {}, screen, asked(trained.experiment.eval, args.views, args.average))
  if not is_first():
    return
  write_report(args.run)
  screen.print(split, {k: round(v, 4) for k, v in read_result(args.run)[split].items()})
  screen.print(f"report: {args.run / 'report.html'}   figures: {args.run / 'result.json'}")


def asked(configured: Eval, views: str | None, average: str | None) -> Eval:
  """The run's views, changed by what was typed; raises UserError if that is none."""
  section = dataclasses.asdict(configured)
  if views:
    clips, cross, crops = views.partition("x")
    if not (cross and clips.isdecimal() and crops.isdecimal()):
      raise UserError(f"--views={views}: must be clips x crops, such as 10x3")
    section |= {"clips": int(clips), "crops": int(crops)}
  if average:
    section["average"] = average
  return build(Eval, section, "--views" if views else "eval")


if __name__ == "__main__":
  run(main)
