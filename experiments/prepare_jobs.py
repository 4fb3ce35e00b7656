"""A dataset prepared by many jobs, one shard each."""

import pathlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.cluster import Cluster, failure, need_submitit, open_cluster, submit
from experiments.progress import progress_lines
from vu_jax.data.parallel import available_cores
from vu_jax.data.parts import Shard
from vu_jax.data.preparation import Preparation, Progress, Say
from vu_jax.data.prepare import prepare_shard
from vu_jax.errors import UserError

_LOOK_AGAIN_S = 0.5


@dataclass(frozen=True)
class ShardJob:
  """What one job does; the arguments are those of `prepare_shard`."""

  name: str
  options: Any
  data_dir: pathlib.Path
  shard: Shard
  threads: int

  def __call__(self) -> None:
    progress = progress_lines(print, f"shard {self.shard}", "clips")
    prepare_shard(self.name, self.options, self.data_dir, self.shard, progress, print, self.threads)

  def checkpoint(self) -> Any:
    """What is queued again when the time of the job is up: the same, for it goes on where it stopped."""
    return need_submitit("a job").helpers.DelayedSubmission(self)


def prepare_by_jobs(
  name: str,
  options: Any,
  data_dir: pathlib.Path,
  count: int,
  cluster: Cluster,
  slurm: Mapping[str, Any],
  progress: Progress,
  say: Say,
) -> bool:
  """Submits the shards of a dataset; waits for those that run on this machine.

  Args:
    name, options, data_dir, progress, say: as of `vu_jax.data.prepare.prepare`.
    count: of jobs; no more are submitted than there are parts.
    cluster, slurm: as of `experiments.cluster.open_cluster`.

  Returns:
    Whether the dataset is complete now.

  Raises:
    UserError: jobs cannot be submitted, or one has failed.
  """
  found = Preparation(name, options, data_dir, say=say)
  if found.is_complete():
    return True
  if not found.in_parts:
    raise UserError(f'config.data.name = "{name}": such a dataset is prepared in one go; leave out --jobs')
  count = min(count, len(found.parts))
  logs = found.folder / "jobs"
  executor = open_cluster("prepare", logs, cluster, slurm)
  found.begin(count)
  threads = max(available_cores() // count, 1) if cluster == "local" else 0
  shards = [Shard(number, count) for number in range(1, count + 1)]
  tasks = [ShardJob(name, options, data_dir.absolute(), shard, threads) for shard in shards]
  jobs = submit(executor, tasks)
  say(f"submitted {count} jobs ({jobs[0].job_id} to {jobs[-1].job_id}), one shard each; their logs: {logs}")
  if cluster != "local":
    say("the last of them completes the dataset; until then launch says which shards are missing")
    return False
  while not all(job.done() for job in jobs):
    progress(*found.count())
    time.sleep(_LOOK_AGAIN_S)
  for shard, job in zip(shards, jobs, strict=True):
    if why := failure(job):
      raise UserError(f"shard {shard}: {why}; what is finished is kept, the same command goes on")
  shutil.rmtree(logs, ignore_errors=True)
  return True
