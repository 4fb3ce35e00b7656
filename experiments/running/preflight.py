"""What is checked before step 1: memory of the step, disk for the checkpoints, speed of the loader."""

import itertools
import math
import os
import pathlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.running.assemble import Experiment
from vu_jax.cost import peak_bytes
from vu_jax.disk import free_bytes
from vu_jax.errors import UserError
from vu_jax.train.loop import Train

_GIB = 2**30
SPARE = 0.95  # share of a device's memory that programs may fill; the rest goes to fragments and the runtime
_TIMED_BATCHES, _TIMED_S = 3, 10.0


@dataclass(frozen=True)
class StepMemory:
  """Memory of the training step on one device [bytes].

  Fields:
    peak: the compiler's estimate for the whole step; 0 = unknown.
    state: parameters, optimizer state and what else is kept between steps.
    limit: what the device has; 0 = unknown.
    clips: of a batch on one device.
  """

  peak: int
  state: int
  limit: int
  clips: int

  @property
  def per_clip(self) -> int:
    """What each further clip of the batch costs: everything that is not state."""
    return max(self.peak - self.state, 0) // self.clips

  @property
  def fitting_clips(self) -> int:
    """The largest batch of one device that should fit."""
    room = int(self.limit * SPARE) - self.state
    return max(room // max(self.per_clip, 1), 0)


def step_memory(compiled: Any, state: Any, batch_size: int, mesh: Mesh) -> StepMemory:
  """Of a compiled training step; `state` are shapes with their shardings."""
  kept = sum(on_one_device(leaf) for leaf in jax.tree.leaves(state))
  return StepMemory(peak_bytes(compiled), kept, device_memory(mesh), max(batch_size // mesh.size, 1))


def on_one_device(leaf: Any) -> int:
  """Bytes of one device's part of an array, given as shape, dtype and sharding."""
  shape = leaf.sharding.shard_shape(leaf.shape) if getattr(leaf, "sharding", None) else leaf.shape
  width = 4 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.dtype(leaf.dtype).itemsize
  return math.prod(shape) * width


def total_bytes(leaves: Iterable[Any]) -> int:
  """Of whole arrays, given as shape and dtype."""
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def device_memory(mesh: Mesh) -> int:
  """Bytes of memory per device; CPU devices share the machine's. 0 = unknown."""
  first = next(device for device in mesh.devices.flat if device.process_index == jax.process_index())
  if stats := first.memory_stats():
    return int(stats.get("bytes_limit", 0))
  if first.platform != "cpu":
    return 0
  whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return whole // len(mesh.local_devices)


def check_memory(need: StepMemory, fsdp: int) -> None:
  """Raises UserError, with what to change, if the compiler says that a step cannot fit into the device."""
  if not need.limit or need.peak <= need.limit * SPARE:
    return
  fits = need.fitting_clips
  smaller = f"config.loader.batch_size with at most {fits} clips per device instead of {need.clips}, " if fits else ""
  parts = (
    f"config.mesh.fsdp above {fsdp} (parameters and optimizer take {_gib(need.state)} of it), " if not fits else ""
  )
  raise UserError(
    f"a step needs about {_gib(need.peak)} per device, and the device has {_gib(need.limit)}: choose {smaller}{parts}"
    'config.train.accumulate above 1, config.model.remat=True, or config.model.dtype="bfloat16"'
  )


def check_best_metric(experiment: Experiment) -> None:
  """Raises UserError if evaluations will not give the metric that the config names; nothing is computed."""
  if not experiment.train.best_metric:
    return
  net, task = experiment.net(), experiment.task
  variables, batch = experiment.variable_shapes(), experiment.batch_shapes()
  sums = jax.eval_shape(lambda v, b: task.sums(net.apply(v, b, train=False), b), variables, batch)
  experiment.train.best.name(experiment.task.summary(jax.tree.map(lambda s: np.ones(s.shape, s.dtype), sums)))


def check_disk(workdir: pathlib.Path, state: Any, options: Train) -> int:
  """Bytes that the run's checkpoints will take at most: those that are kept, and the one being written.

  Raises:
    UserError: the disk has no room for them.
  """
  one = total_bytes(jax.tree.leaves(state))
  need = one * (options.keep + options.keep_best + 1)
  free = free_bytes(workdir)
  if need > free:
    raise UserError(
      f"the checkpoints need {_gib(need)} in {workdir} ({_gib(one)} each), where {_gib(free)} are free: make room, "
      "choose another --workdir, or lower config.train.keep and config.train.keep_best"
    )
  return need


def loader_rate(batches: Iterator[Any]) -> float:
  """Clips per second that a training loader delivers, from a few batches; it is closed then.

  The first batch is not counted: it waits for the threads to start.
  """
  next(batches)
  clips, start = 0, time.perf_counter()
  for batch in itertools.islice(batches, _TIMED_BATCHES):
    clips += len(batch["mask"])
    if time.perf_counter() - start > _TIMED_S:
      break
  seconds = time.perf_counter() - start
  getattr(batches, "close", lambda: None)()
  return clips / seconds


def step_rate(compiled: Any, state: Any, batch: Any, times: int = 3) -> float:
  """Clips per second of the compiled training step, which uses up `state`; the first step is not counted."""
  state, _ = jax.block_until_ready(compiled(state, batch))
  start = time.perf_counter()
  for _ in range(times):
    state, _ = compiled(state, batch)
  jax.block_until_ready(state)
  return times * len(batch["mask"]) / (time.perf_counter() - start)


def verdict(loader: float, step: float) -> str:
  """One line on which of the two holds the other back."""
  if loader < step:
    share = 1 - loader / step
    return f"decode-bound: the device would wait {share:.0%} of the time; add loader.threads, or prepare smaller frames"
  return "compute-bound: the loader keeps up"


def _gib(size: float) -> str:
  return f"{size / _GIB:.1f} GiB" if size >= _GIB / 10 else f"{size / 2**20:.0f} MiB"
