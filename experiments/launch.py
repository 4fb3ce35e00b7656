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
from experiments.plan import announce, clip_flops, enable_compile_cache
from experiments.prepare import prepared
from experiments.trained import Trained, note_dataset, short_side
from experiments.training_data import training_data
from vu_jax.checkpoint import Checkpoints, check_workdir, claim_workdir
from vu_jax.config import load
from vu_jax.data.loader import train_batches
from vu_jax.data.prepare import check_split, check_stored
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
  directory, facts = prepared(experiment.names["data"], experiment.data, data_dir, screen)
  check_split(facts, experiment.train.eval_split, "config.train.eval_split")
  check_stored(facts, experiment.clip, experiment.pixels, experiment.audio)
  data = training_data(experiment, directory, facts, data_dir, screen)
  claim_workdir(workdir, experiment.resolved())
  note_dataset(workdir, directory, facts, data.label_names)
  enable_compile_cache(data_dir)
  experiment = experiment.for_classes(len(data.label_names))

  tx = optimizer(experiment.optim, experiment.train.steps)
  init, train_step, eval_step = compile_steps(mesh, experiment.net(), experiment.task, tx, experiment.alter())
  train_step = announce(experiment, facts, data.num_clips, workdir, mesh, init, train_step, screen)
  batches = train_batches(
    data.source,
    experiment.clip,
    experiment.pixels,
    experiment.loader,
    experiment.seed,
    experiment.augment,
    data.labels,
    workdir / QUARANTINE,
    data.order,
    experiment.audio,
  )
  state = init(experiment.empty_batch(), experiment.seed)
  trained = Trained(experiment, mesh, state, eval_step, directory, data.label_names, short_side(facts))
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
  about |= {"gflop_per_clip": round(clip_flops(experiment) / 1e9, 4)}
  about |= {"unreadable_clips": unread} if unread else {}
  finish(dataclasses.replace(trained, state=state), workdir, split, about, screen)
  write_report(workdir)
  screen.print(summary_table(workdir))
  screen.print(f"report: {workdir / 'report.html'}   figures: {workdir / 'result.json'}   {seconds:.0f} s in all")


if __name__ == "__main__":
  run(main)
