"""`launch --dry_run`: a run up to step 1, measured; and what a cluster would need for it."""

import math
import os
from collections.abc import Iterable

import jax
from rich.console import Console

from experiments.running.assemble import Experiment
from experiments.running.capacity import CHIPS, Chip, Cluster, Measured, table
from experiments.running.preflight import loader_rate, step_rate, total_bytes, verdict
from experiments.running.ready import Ready
from vu_jax.train.mesh import to_devices


def dry_run(ready: Ready, cluster: Cluster | None, screen: Console) -> None:
  """Times loader and step, says which one holds the other back, and prints what the cluster needs, if one is given."""
  threads = ready.experiment.loader.threads or os.cpu_count() or 1
  loader = loader_rate(ready.batches()) * jax.process_count()
  _print(screen, [("loader", f"{loader:.3g} clips/s with {threads} threads per host")])
  step = measured_step_rate(ready)
  _print(screen, [("step", f"{step:.3g} clips/s{_utilisation(ready, step)}"), ("verdict", verdict(loader, step))])
  if cluster:
    screen.print(f"\non {cluster.chips} chips with {cluster.clips:,} training clips:")
    _print(screen, table(measured(ready, loader), cluster))


def measured_step_rate(ready: Ready) -> float:
  """Clips per second of the training step on a real batch."""
  iterator = ready.batches()
  batch = to_devices(ready.mesh, next(iterator))
  getattr(iterator, "close", lambda: None)()
  return step_rate(ready.train_step, ready.steps.init(ready.experiment.seed), batch)


def measured(ready: Ready, loader_clips_per_s: float) -> Measured:
  """What the formulae for a cluster start from."""
  experiment, stored = ready.experiment, ready.facts["splits"]["train"]
  cores = min(experiment.loader.threads or math.inf, os.cpu_count() or 1) * jax.process_count()
  state, gradients = jax.tree.leaves(ready.steps.shapes), total_bytes(jax.tree.leaves(ready.steps.shapes.params))
  return Measured(
    stored_bytes=stored["bytes"] / stored["clips"],
    decoded_per_core_s=loader_clips_per_s / cores,
    forward_flops=ready.flops,
    state_bytes=total_bytes(state),
    shardable_bytes=total_bytes(leaf for leaf in state if leaf.size >= experiment.mesh.shard_min_size),
    gradient_bytes=gradients,
    clip_bytes=max(ready.memory.per_clip - gradients / ready.memory.clips, 0),
    clips_per_chip=ready.memory.clips,
    epochs=_epochs(experiment, ready.data.num_clips),
  )


def _epochs(experiment: Experiment, clips: int) -> float:
  return experiment.train.steps * experiment.loader.batch_size / clips


def _utilisation(ready: Ready, clips_per_s: float) -> str:
  """Share of the peak of a known chip, by the operations of a training step (three times the forward pass)."""
  chip = known_chip(ready.mesh.devices.flat[0].device_kind)
  if chip is None:
    return ""
  return f", {clips_per_s * 3 * ready.flops / (chip.flops * ready.mesh.size):.1%} of the bfloat16 peak"


def known_chip(kind: str) -> Chip | None:
  """The chip that a device says it is, such as "NVIDIA H200"."""
  name = kind.lower().replace(" ", "-")
  return next((chip for key, chip in CHIPS.items() if key in name), None)


def _print(screen: Console, lines: Iterable[tuple[str, str]]) -> None:
  for name, text in lines:
    screen.print(f"{name:>10}  {text}", markup=False, soft_wrap=True)
