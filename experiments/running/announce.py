"""What a run is about to do, printed before it starts: model, cost, data, device, place."""

import pathlib
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console

from experiments.running.assemble import Experiment
from vu_jax.cost import forward_flops
from vu_jax.train.param_groups import describe


def announce(
  experiment: Experiment,
  facts: dict[str, Any],
  clips: int,
  workdir: pathlib.Path,
  mesh: Mesh,
  params: Any,
  flops: int,
  peak: int,
  screen: Console,
) -> None:
  """Prints what a run is and what it costs.

  Args:
    facts: of the dataset. clips: to train on.
    params: their shapes.
    flops: of one clip forward. peak: memory of the training step on one device [bytes], 0 = unknown.
  """
  size, updates = experiment.loader.batch_size, experiment.train.steps
  of_all = facts["splits"]["train"]["clips"]
  share = f"{clips} of {of_all}" if clips < of_all else str(clips)
  stored = sum(s["bytes"] for s in facts["splits"].values())
  video = experiment.batch_shapes()["video"].shape
  names = experiment.names
  datasets = " + ".join([names["data"], *experiment.extra])
  lines = {
    "model": f"{names['model']} ({experiment.model.dtype}), {parameters(params):,} parameters, "
    f"{flops / 1e9:.3g} GFLOP per clip forward",
    "weights": describe(params, experiment.optim),
    "clips": f"{video[1]} frames of {video[2]}x{video[3]} px, {experiment.clip.sampling}",
    "data": f"{datasets}: {share} training clips, {len(facts['labels'])} classes, {stored / 2**20:.1f} MiB stored",
    "training": f"{updates} steps of {size} clips = {updates * size / clips:.1f} epochs, {experiment.optim.method}",
    "device": f"{devices(mesh)}, {memory(peak)} for the step",
    "output": str(workdir),
  }
  for name, text in lines.items():
    screen.print(f"{name:>9}  {text}", markup=False)


def devices(mesh: Mesh) -> str:
  """How many there are, and in how many parts they hold the state."""
  groups = f", the state in {mesh.shape['fsdp']} parts" if mesh.shape["fsdp"] > 1 else ""
  return f"{mesh.size} x {mesh.devices.flat[0].device_kind}{groups}"


def parameters(params: Any) -> int:
  """Number of trained values."""
  return sum(p.size for p in jax.tree.leaves(params))


def clip_flops(experiment: Experiment, variables: Any) -> int:
  """Floating-point operations of one clip's forward pass; a multiply-add is two. `variables` are their shapes."""
  shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct((1, *s.shape[1:]), s.dtype), experiment.batch_shapes())
  net = experiment.net()
  return forward_flops(lambda v, b: net.apply(v, b, train=False), variables, shapes)


def memory(peak: int) -> str:
  """Estimated peak memory of the training step [bytes]; 0 = unknown."""
  return f"about {peak / 2**20:.0f} MiB" if peak else "memory unknown"


def enable_compile_cache(data_dir: pathlib.Path) -> None:
  """Keeps compiled programs between runs, so that a second start compiles nothing."""
  jax.config.update("jax_compilation_cache_dir", str(data_dir / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # JAX's own second leaves out small networks
