"""Workers of a sweep: the program itself, several processes of this machine, or jobs of Slurm. Imports Optuna.

Processes and jobs are the same to us, through submitit.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.cluster import Cluster, failure, need_submitit, open_cluster, submit
from experiments.sweeps.devices import Share, here, shares
from experiments.sweeps.plan import Plan
from experiments.sweeps.workers import work
from vu_jax.backend import fast_cpu
from vu_jax.errors import UserError
from vu_jax.train.signals import Interrupted, StopSignals

_LOOK_AGAIN_S = 0.5
_GRACE_S = 600.0  # for Slurm to end a job that it has asked to stop


@dataclass(frozen=True)
class Worker:
  """A job that works on a sweep.

  Fields:
    share: of this machine, which is applied before JAX is used; None = Slurm has seen to that.
    launcher: the process that waits for it, and takes it along when it dies; 0 = none does.
  """

  plan: Plan
  share: Share | None = None
  launcher: int = 0

  def __call__(self) -> None:
    if self.share:
      self.share.apply()
    if self.launcher:
      os.setpgid(0, 0)  # lest Ctrl-C reach it beside what the launcher says
      threading.Thread(target=_follow, args=(self.launcher,), daemon=True).start()
    fast_cpu()
    with _requeue_signal() as asked:
      try:
        work(self.plan)
      except Interrupted as stopped:
        print(f"stopped at {stopped}", flush=True)
        _after(asked, on_slurm=not self.launcher)

  def checkpoint(self) -> Any:
    """What is queued again when the time of the job is up: the same, for it goes on where it stopped."""
    return need_submitit("a job").helpers.DelayedSubmission(self)


def _follow(launcher: int) -> None:
  while _lives(launcher):
    time.sleep(_LOOK_AGAIN_S)
  os.kill(os.getpid(), signal.SIGTERM)


def _lives(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


@contextlib.contextmanager
def _requeue_signal() -> Iterator[list[Any]]:
  """submitit requeues a job from within the signal that its time is up; here everything is saved first."""
  asked: list[Any] = []
  requeue = signal.getsignal(signal.SIGUSR2)

  def note(number: int, frame: Any) -> None:
    asked.append(lambda: callable(requeue) and requeue(number, frame))
    os.kill(os.getpid(), signal.SIGTERM)

  signal.signal(signal.SIGUSR2, note)
  try:
    yield asked
  finally:
    signal.signal(signal.SIGUSR2, requeue)


def _after(asked: list[Any], on_slurm: bool) -> None:
  """What a job does that was asked to stop, and has saved everything."""
  if asked:
    asked[0]()
  elif on_slurm:
    # Pre-empted, cancelled or requeued: a job that ended by itself now would count as done, and not start again.
    time.sleep(_GRACE_S)


def work_here(plan: Plan, jobs: int) -> None:
  """Works in this process, or in so many processes of this machine, until the sweep is done.

  Raises:
    Interrupted: asked to stop; all is saved.
    UserError: a worker has died or given up.
  """
  if jobs == 1:
    return work(plan)
  executor = open_cluster("sweep", plan.directory / "jobs", "local", {})
  tasks = [Worker(plan, share, os.getpid()) for share in shares(jobs, *here())]
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit; on Ctrl-C they are told below
  try:
    running = submit(executor, tasks)
  finally:
    signal.signal(signal.SIGINT, before)
  with StopSignals() as stop:
    _wait(running, stop)
  if stop.name:
    raise Interrupted("the newest steps of its groups, saved")
  for number, job in enumerate(running):
    if why := failure(job):
      raise UserError(f"worker {number}: {why}; the same command goes on")
  return None


def _wait(running: list[Any], stop: StopSignals) -> None:
  told = False
  while not all(job.done() for job in running):
    if stop.name and not told:
      told = True
      for job in running:
        with contextlib.suppress(ProcessLookupError):
          os.kill(int(job.job_id), signal.SIGTERM)  # submitit's controller hands it on
    time.sleep(_LOOK_AGAIN_S)


def submit_workers(plan: Plan, jobs: int, cluster: Cluster, slurm: Mapping[str, Any]) -> list[Any]:
  """An array of workers on a cluster; nobody waits for them."""
  executor = open_cluster(f"sweep_{plan.name}", plan.directory / "jobs", cluster, slurm)
  return submit(executor, [Worker(plan)] * jobs)
