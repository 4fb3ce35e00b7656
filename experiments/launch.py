"""Trains an experiment, evaluates it and writes a report.

python -m experiments.launch --config=configs/motion_convlstm.py [--config.KEY=VALUE ...] [--workdir=runs/NAME]
    [--dry_run | --plan=CHIPS,CLIPS [--chip=h100] [--mfu=0.3]]

The same command continues a run that was stopped, exactly. One run on several hosts, which share the disk: on Slurm,
TPU pods and Kubernetes the same command everywhere with --process=auto; elsewhere --process=I/N for I = 0 .. N - 1
and --coordinator=HOST:PORT of process 0.
"""

import contextlib
import dataclasses
import pathlib
import time
from functools import partial

from rich.console import Console

from experiments.cli import Arguments, console, run
from experiments.running.assemble import assemble, run_name
from experiments.running.capacity import CHIPS, parse_plan
from experiments.running.dry_run import dry_run
from experiments.running.outcome import facts_of_run, final_split, finish
from experiments.running.ready import Ready, make_ready
from experiments.running.score import score
from experiments.running.start import first_state, open_checkpoints
from experiments.running.trained import Trained, note_dataset, short_side
from vu_jax.checkpoint.workdir import check_workdir, claim_workdir
from vu_jax.config import load
from vu_jax.data.protocol import ONE_VIEW
from vu_jax.data.quarantine import FILE as QUARANTINE
from vu_jax.data.source import PreparedSource
from vu_jax.report.headline import summary_table
from vu_jax.report.page import write_report
from vu_jax.train.distributed import alone, connect, is_first, together
from vu_jax.train.log import RunLog
from vu_jax.train.loop import train
from vu_jax.train.mesh import to_devices
from vu_jax.train.optim import learning_rate
from vu_jax.train.profiling import Profile
from vu_jax.train.signals import EXIT_CODE, StopSignals

EXIT_CODES = (
  "exit codes: 0 = done; 2 = something to mend, said in one line; "
  f"{EXIT_CODE} = asked to stop by SIGTERM or Ctrl-C, all is saved, the same command continues; 130 = Ctrl-C elsewhere"
)


def main() -> None:
  parser = Arguments(prog="experiments.launch", description=__doc__.splitlines()[0], epilog=EXIT_CODES)
  parser.add_config()
  parser.add_argument("--workdir", type=pathlib.Path, help="run directory (default: runs/<config name>)")
  parser.add_data_dir()
  parser.add_processes()
  parser.add_argument("--dry_run", action="store_true", help="stop before step 1; times the loader and a few steps")
  text = "dry run that also says what so many clips on so many chips would need, such as 256,10e6"
  parser.add_argument("--plan", metavar="CHIPS,CLIPS", help=text)
  parser.add_argument("--chip", default="h100", help=f"for --plan: {', '.join(CHIPS)} (default: h100)")
  parser.add_argument("--mfu", type=float, default=0.3, help="for --plan: share of the chip's peak (default: 0.3)")
  args, overrides = parser.read()
  cluster = parse_plan(args.plan, args.chip, args.mfu) if args.plan else None
  connect(args.process, args.coordinator)
  experiment = assemble(load(args.config, overrides))
  workdir = args.workdir or pathlib.Path("runs") / run_name(args.config)
  screen, start = console(), time.perf_counter()
  check_workdir(workdir, experiment.resolved())
  ready = make_ready(experiment, workdir, args.data_dir, screen)
  if cluster or args.dry_run:
    dry_run(ready, cluster, screen)
  else:
    launch(ready, workdir, screen, start)


def launch(ready: Ready, workdir: pathlib.Path, screen: Console, start: float) -> None:
  """Trains, evaluates, reports; `start` is when the program did [s, of `time.perf_counter`]."""
  experiment, mesh, steps, labels = ready.experiment, ready.mesh, ready.steps, ready.data.label_names
  alone(lambda: claim_workdir(workdir, experiment.resolved()))
  alone(lambda: note_dataset(workdir, ready.directory, ready.facts, labels))
  batches = ready.batches(workdir / QUARANTINE)
  checkpoints = open_checkpoints(experiment, workdir, ready.directory, labels, mesh, screen)
  state = first_state(experiment, steps, checkpoints, workdir, screen)
  trained = Trained(experiment, mesh, state, steps.evaluate, ready.directory, labels, short_side(ready.facts))
  held_out = PreparedSource(ready.directory, experiment.train.eval_split)
  profile = Profile(experiment.train.profile_steps, workdir / "profile")
  log = RunLog(workdir, experiment.train.steps, screen, experiment.train.writers)
  with contextlib.ExitStack() as ending, StopSignals() as stop, together():
    # In reverse: the save in flight is waited for first.
    for each in (batches, profile, log, checkpoints):
      ending.callback(getattr(each, "close", lambda: None))
    state = train(
      experiment.train,
      state,
      ready.train_step,
      batches,
      partial(to_devices, mesh),
      lambda state: score(trained, state, held_out, ONE_VIEW, stop.raise_if_any).summary,
      learning_rate(experiment.optim, experiment.train.steps),
      checkpoints,
      log,
      stop,
      profile,
    )
  seconds = time.perf_counter() - start
  split = final_split(ready.facts["splits"], experiment.train.eval_split)
  about = facts_of_run(ready, workdir, seconds, workdir / QUARANTINE)
  finish(dataclasses.replace(trained, state=state), workdir, split, about, screen)
  if not is_first():
    return
  write_report(workdir)
  screen.print(summary_table(workdir))
  screen.print(f"report: {workdir / 'report.html'}   figures: {workdir / 'result.json'}   {seconds:.0f} s in all")


if __name__ == "__main__":
  run(main)
