"""Runs tasks as jobs, through submitit: processes of this machine, or an array of jobs of a Slurm cluster."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from vu_jax.errors import UserError

Cluster: TypeAlias = Literal["local", "slurm"]
_DAY_MIN = 24 * 60
_YEAR_MIN = 365 * _DAY_MIN
# submitit's own defaults are 5 minutes and one core. A task that can continue is queued again when its time is up.
_SLURM = {"time": _DAY_MIN, "cpus_per_task": 8}
_TIMES = 100  # that it is


def need_submitit(option: str) -> Any:
  """The module submitit; raises UserError, naming the option that asked for it, where it is not installed."""
  try:
    import submitit
  except ImportError:
    raise UserError(f"{option} needs submitit: pip install -e '.[sweep]'") from None
  return submitit


def parse_slurm(text: str) -> dict[str, Any]:
  """Parameters of sbatch from "partition=cpu,time=600"; raises UserError if it is not of that form."""
  found: dict[str, Any] = {}
  for pair in filter(None, text.split(",")):
    key, equals, value = pair.partition("=")
    if not equals or not key.strip() or not value.strip():
      raise UserError(f"--slurm={text}: must be KEY=VALUE,..., such as --slurm=partition=cpu,time=600,cpus_per_task=16")
    found[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
  return found


def open_cluster(name: str, folder: pathlib.Path, cluster: Cluster, slurm: Mapping[str, Any]) -> Any:
  """submitit's executor, which `submit` takes.

  Args:
    name: of the jobs.
    folder: for what is handed over, and for the logs; jobs must be able to reach it.
    cluster: where they run; "local" starts all at once.
    slurm: parameters of sbatch besides the defaults here, as submitit names them: time [min], partition, ...

  Raises:
    UserError: there is no submitit, no Slurm, or no such parameter.
  """
  submitit = need_submitit("running jobs")
  parameters = {f"slurm_{key}": value for key, value in (_SLURM | dict(slurm)).items()}
  with _in_one_line(cluster):
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=_TIMES)
    executor.update_parameters(name=name, timeout_min=_YEAR_MIN, **(parameters if cluster == "slurm" else {}))
  return executor


def submit(executor: Any, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
  """Starts all tasks, on Slurm as one array.

  Args:
    executor: of `open_cluster`.
    tasks: picklable; one with a method `checkpoint` is started again when its time is up or it is preempted.

  Returns:
    submitit's jobs: `done()`, `exception()`, `job_id`.

  Raises:
    UserError: Slurm refuses them.
  """
  with _in_one_line(executor.cluster), executor.batch():
    return [executor.submit(task) for task in tasks]


@contextlib.contextmanager
def _in_one_line(cluster: str) -> Iterator[None]:
  """What submitit raises has many types and lines."""
  try:
    yield
  except (RuntimeError, NameError, ValueError, TypeError, OSError) as error:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    raise UserError(f"--cluster={cluster}: {lines[0]}") from None


def failure(job: Any) -> str:
  """Why a finished job has failed, in one line; "" if it has not."""
  error = job.exception()
  if error is None:
    return ""
  trace = str(error).split("-" * 22)
  if len(trace) < 2:
    return f"it ended without a result; its log is {job.paths.stderr}"
  last = [line for line in trace[1].splitlines() if line.strip()][-1]
  return last.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
