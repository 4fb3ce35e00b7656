"""Trains an experiment, evaluates it and writes a report.

python -m experiments.launch --config=configs/motion_convlstm.py [--config.KEY=VALUE ...] [--workdir=runs/NAME]

The same command continues a run that was stopped, exactly.
"""

import dataclasses
import pathlib
import time
from functools import partial

from experiments.assemble import Experiment, assemble, run_name
from experiments.cli import Arguments, console, run
from experiments.outcome import final_split, finish, provenance, score
from experiments.plan import announce, enable_compile_cache
from experiments.prepare import prepared
from experiments.trained import Trained, note_dataset, short_side
from vu_jax.checkpoint import Checkpoints, check_workdir, claim_workdir
from vu_jax.config import load
from vu_jax.data.loader import train_batches, training_order
from vu_jax.data.prepare import check_split, check_stored, read_labels
from vu_jax.data.protocol import ONE_VIEW
from vu_jax.data.quarantine import FILE as QUARANTINE
from vu_jax.data.quarantine import read_quarantine
from vu_jax.data.source import PreparedSource
from vu_jax.report.headline import summary_table
from vu_jax.report.page import write_report
from vu_jax.train.log import RunLog
from vu_jax.train.loop import train
from vu_jax.train.mesh import check_batch_size, data_mesh, to_devices
from vu_jax.train.optim import learning_rate, optimizer
from vu_jax.train.step import compile_steps


def main() -> None:
  parser = Arguments(prog="experiments.launch", description=__doc__.splitlines()[0])
  parser.add_config()
  parser.add_argument("--workdir", type=pathlib.Path, help="run directory (default: runs/<config name>)")
  parser.add_data_dir()
  args, overrides = parser.read()
  experiment = assemble(load(args.config, overrides))
  launch(experiment, args.workdir or pathlib.Path("runs") / run_name(args.config), args.data_dir)


def launch(experiment: Experiment, workdir: pathlib.Path, data_dir: pathlib.Path) -> None:
  """The whole way of the data: prepare, train, evaluate, report."""
  screen, start = console(), time.perf_counter()
  mesh = data_mesh()
  check_batch_size(mesh.size, experiment.loader.batch_size)
  check_workdir(workdir, experiment.resolved())
  directory, facts = prepared(experiment, data_dir, screen)
  check_split(facts, experiment.train.eval_split, "config.train.eval_split")
  check_stored(facts, experiment.clip, experiment.pixels)
  loader, num_clips, labels = experiment.loader, facts["splits"]["train"]["clips"], None
  if loader.needs_labels or loader.max_bad_frac:
    labels = read_labels(directory, "train")
    num_clips = len(training_order(loader, labels, facts["labels"], experiment.seed)[0])
  claim_workdir(workdir, experiment.resolved())
  note_dataset(workdir, directory, facts)
  enable_compile_cache(data_dir)
  experiment = experiment.for_classes(len(facts["labels"]))

  tx = optimizer(experiment.optim, experiment.train.steps)
  init, train_step, eval_step = compile_steps(mesh, experiment.net(), experiment.task, tx, experiment.alter())
  train_step = announce(experiment, facts, num_clips, workdir, mesh, init, train_step, screen)
  source = PreparedSource(directory, "train")
  batches = train_batches(
    source,
    experiment.clip,
    experiment.pixels,
    loader,
    experiment.seed,
    experiment.augment,
    labels,
    workdir / QUARANTINE,
  )
  state = init(experiment.empty_batch(), experiment.seed)
  trained = Trained(experiment, mesh, state, eval_step, directory, facts["labels"], short_side(facts))
  held_out = PreparedSource(directory, experiment.train.eval_split)
  checkpoints = Checkpoints(workdir)
  if checkpoints.latest() is not None:
    screen.print(f"continues  from step {checkpoints.latest()}")
  log = RunLog(workdir, experiment.train.steps, screen)
  try:
    state = train(
      experiment.train,
      state,
      train_step,
      batches,
      partial(to_devices, mesh),
      lambda state: score(trained, state, held_out, ONE_VIEW)[0],
      learning_rate(experiment.optim, experiment.train.steps),
      checkpoints,
      log,
    )
  finally:
    checkpoints.close()
    log.close()
    batches.close()  # ends the loader's processes, if it has any
  seconds = time.perf_counter() - start
  split = final_split(facts["splits"], experiment.train.eval_split)
  unread = len(read_quarantine(workdir / QUARANTINE))
  about = {"name": workdir.resolve().name, "train_seconds": round(seconds, 1), "provenance": provenance(mesh)}
  about |= {"unreadable_clips": unread} if unread else {}
  finish(dataclasses.replace(trained, state=state), workdir, split, about, screen)
  write_report(workdir)
  screen.print(summary_table(workdir))
  screen.print(f"report: {workdir / 'report.html'}   figures: {workdir / 'result.json'}   {seconds:.0f} s in all")


if __name__ == "__main__":
  run(main)
