"""Tries many values of a config's keys, in populations that share every batch, and says which are best.

python -m experiments.sweep --config=configs/motion_convlstm.py --trials=16 --batch=8
    [--sampler=tpe|random|grid|cmaes] [--pruner=halving|median] [--vary 'optim.lr_peak=log_uniform(1e-4,1e-2)' ...]
    [--jobs=N] [--cluster=slurm --slurm=partition=gpu,gpus_per_node=1] [--storage=postgresql://...] [--dry_run]

The values come from the config's get_sweep(), or from --vary, which replaces it. The same command continues a sweep
that was stopped, or helps one that runs; with larger --trials it extends it. --jobs=0 only shows it.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from experiments.cli import Arguments, console, run
from experiments.cluster import need_submitit, parse_slurm
from experiments.launch import EXIT_CODES
from experiments.running.assemble import assemble, run_name
from experiments.running.dataset import prepared
from experiments.sweeps.identity import check_directory
from experiments.sweeps.plan import Plan, check_space, objective_of, planned
from experiments.sweeps.show import announce, conclude, dry_run, watch
from experiments.sweeps.view import shown
from vu_jax.config import beside, load
from vu_jax.errors import UserError
from vu_jax.search import Space, checked_space, parse_vary

STORAGE = "VU_JAX_STORAGE"  # environment variable
WITHOUT_END = 1 << 30  # trials of a grid: all


def main() -> None:
  parser = Arguments(prog="experiments.sweep", description=__doc__.splitlines()[0], epilog=EXIT_CODES)
  add_arguments(parser)
  args, overrides = parser.read()
  check_arguments(args)
  screen = console()
  need_optuna()
  if args.jobs != 1:
    spare_devices()
  plan = make_plan(args, overrides)
  if args.dry_run:
    return dry_run(plan, screen)
  if args.jobs == 0:
    return watch(plan, screen)
  announce(plan, args.jobs, args.cluster, screen)
  sweep(plan, args, screen)
  return None


def add_arguments(parser: Arguments) -> None:
  parser.add_config()
  parser.add_argument("--trials", type=int, metavar="N", help="in all, finished ones included (a grid: all of it)")
  text = "trials that are trained at once on the same batches, if they share a program (default: 8)"
  parser.add_argument("--batch", type=int, default=8, metavar="P", help=text)
  text = "who chooses the values (default: tpe)"
  parser.add_argument("--sampler", choices=("tpe", "random", "grid", "cmaes"), default="tpe", help=text)
  text = "who ends hopeless trials at an evaluation (default: none)"
  parser.add_argument("--pruner", choices=("none", "halving", "median"), default="none", help=text)
  text = "KEY=A,B,C or KEY=uniform(A,B), log_uniform(A,B), integers(A,B); @KEY=VALUE behind it is a condition"
  parser.add_argument("--vary", action="append", default=[], metavar="KEY=...", help=text)
  parser.add_argument("--workdir", type=pathlib.Path, help="directory of the sweep (default: sweeps/<config name>)")
  parser.add_data_dir()
  text = "workers: processes of this machine, or jobs of the cluster; 0 = only show the sweep (default: 1)"
  parser.add_argument("--jobs", type=int, default=1, metavar="N", help=text)
  parser.add_argument("--cluster", choices=("local", "slurm"), default="local", help="where workers run")
  text = "what sbatch is told, such as partition=gpu,time=600,gpus_per_node=1 (default: time=1440,cpus_per_task=8)"
  parser.add_argument("--slurm", metavar="KEY=VALUE,...", help=text)
  text = f"of Optuna, such as postgresql://user:password@host/name (default: ${STORAGE}, else a file in the directory)"
  parser.add_argument("--storage", metavar="URL", default=os.environ.get(STORAGE, ""), help=text)
  parser.add_argument("--dry_run", action="store_true", help="show the values, groups and commands; train nothing")


def check_arguments(args: Any) -> None:
  """Raises UserError for numbers and arguments that make no sense."""
  for name, low in (("trials", 1), ("batch", 1), ("jobs", 0)):
    value = getattr(args, name)
    if value is not None and value < low:
      raise UserError(f"--{name}={value}: must be at least {low}")
  if args.trials is None and args.sampler != "grid":
    raise UserError("--trials=N is missing: how many, such as --trials=16 (only --sampler=grid has an end of its own)")
  if args.slurm is not None and args.cluster != "slurm":
    raise UserError(f"--slurm={args.slurm} is for jobs on Slurm: give --cluster=slurm too")
  if args.storage and "://" not in args.storage:
    raise UserError(f"--storage={args.storage}: must be an URL, such as postgresql://user:password@host/name")
  if args.slurm is not None:
    parse_slurm(args.slurm)
  if args.jobs > 1 or args.cluster == "slurm":
    need_submitit("--jobs" if args.jobs > 1 else "--cluster=slurm")


def need_optuna() -> None:
  """Raises UserError where it is not installed."""
  try:
    import optuna  # noqa: F401
  except ImportError:
    raise UserError("a sweep needs optuna: pip install -e '.[sweep]'") from None


def spare_devices() -> None:
  """The launcher of other processes leaves the GPUs to them; it computes shapes only."""
  import jax

  jax.config.update("jax_platforms", "cpu")


def make_plan(args: Any, overrides: dict[str, str]) -> Plan:
  """What the arguments ask for, checked."""
  directory = (args.workdir or pathlib.Path("sweeps") / run_name(args.config)).absolute()
  experiment = assemble(load(args.config, overrides))
  plan = Plan(
    config=args.config,
    overrides=overrides,
    resolved=experiment.resolved(),
    space=space_of(args.config, args.vary),
    objective=objective_of(experiment),
    trials=args.trials or WITHOUT_END,
    batch=args.batch,
    sampler=args.sampler,
    pruner=args.pruner,
    directory=directory,
    data_dir=args.data_dir.absolute(),
    storage=args.storage,
  )
  check_space(plan)
  from experiments.sweeps.search import sampler

  planned(plan)
  sampler(plan, 0)
  check_directory(plan)
  return plan


def space_of(config: str, vary: Sequence[str]) -> Space:
  """From the command line, else from the config file."""
  if vary:
    return checked_space(parse_vary(vary), "--vary")
  found = beside(config, "get_sweep")
  if found is None:
    raise UserError(
      f"--config={config} has no get_sweep(): say what to try, as --vary 'optim.lr_peak=log_uniform(1e-4,1e-2)'"
    )
  return checked_space(found, f"--config={config}: get_sweep()")


def sweep(plan: Plan, args: Any, screen: Console) -> None:
  """Begins it or goes on."""
  from experiments.sweeps.jobs import submit_workers, work_here

  plan.directory.mkdir(parents=True, exist_ok=True)
  if not any(key.startswith("data.") for key in plan.space):
    experiment = plan.experiment({})
    prepared(experiment.names["data"], experiment.data, plan.data_dir, screen)  # once, not by every worker
  if args.cluster == "slurm":
    jobs = submit_workers(plan, args.jobs, "slurm", parse_slurm(args.slurm or ""))
    screen.print(
      f"submitted {len(jobs)} workers ({jobs[0].job_id} to {jobs[-1].job_id}); logs: {plan.directory / 'jobs'}"
    )
    screen.print("the same command with --jobs=0 shows how the sweep goes", markup=False)
    return
  with shown(plan.directory, screen) as view:
    work_here(plan, args.jobs)
  conclude(plan, view, screen)


if __name__ == "__main__":
  run(main)
