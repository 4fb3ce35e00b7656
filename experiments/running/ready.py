"""Everything up to step 1: the data at hand, the step compiled, and what both cost checked."""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh
from rich.console import Console

from experiments.running.announce import announce, clip_flops, enable_compile_cache
from experiments.running.assemble import Experiment
from experiments.running.dataset import prepared
from experiments.running.preflight import StepMemory, check_best_metric, check_disk, check_memory, step_memory
from experiments.running.training_data import TrainingData, training_data
from vu_jax.data.loader import train_batches
from vu_jax.data.prepare import check_split, check_stored
from vu_jax.train.distributed import in_turn
from vu_jax.train.mesh import check_batch_size, device_mesh
from vu_jax.train.step import Steps


@dataclass(frozen=True)
class Ready:
  """A run that could begin.

  Fields:
    experiment: with the task sized by the dataset's labels.
    directory, facts: of the prepared dataset. data: what is trained on.
    steps: the jitted functions; train_step: the compiled one. memory: what that needs per device.
    flops: of one clip forward.
  """

  experiment: Experiment
  mesh: Mesh
  directory: pathlib.Path
  facts: dict[str, Any]
  data: TrainingData
  steps: Steps
  train_step: Any
  memory: StepMemory
  flops: int

  def batches(self, quarantine: pathlib.Path | None = None) -> Iterator[Any]:
    """The training batches from the first one on, see `loader.train_batches`; each call starts a loader."""
    on, data = self.experiment, self.data
    seed = on.order_seed
    return train_batches(
      data.source, on.clip, on.pixels, on.loader, seed, on.augment, data.labels, quarantine, data.order, on.audio
    )


def make_ready(
  experiment: Experiment,
  workdir: pathlib.Path,
  data_dir: pathlib.Path,
  screen: Console,
  steps_of: Callable[[Experiment, Mesh], Steps] = Experiment.steps,
) -> Ready:
  """Prepares the data, compiles the step, and prints what the run is about to do. Nothing is written into `workdir`.

  Args:
    steps_of: what is to be computed; of a population for example, of which `experiment` is one member.

  Raises:
    UserError: the run cannot be had here: sizes that do not divide, data that lack something, or too little memory or
      disk.
  """
  mesh = device_mesh(experiment.mesh)
  size = experiment.loader.batch_size
  check_batch_size(mesh.size, size, experiment.train.accumulate)
  directory, facts = in_turn(lambda: prepared(experiment.names["data"], experiment.data, data_dir, screen))
  check_split(facts, experiment.train.eval_split, "config.train.eval_split")
  check_stored(facts, experiment.clip, experiment.pixels, experiment.audio)
  data = in_turn(lambda: training_data(experiment, directory, facts, data_dir, screen))
  enable_compile_cache(data_dir)
  experiment = experiment.for_classes(len(data.label_names))
  steps = steps_of(experiment, mesh)
  check_best_metric(experiment)
  if not (workdir / "checkpoints").exists():
    check_disk(workdir, steps.shapes, experiment.train)
  train_step = steps.train.lower(steps.shapes, experiment.batch_shapes()).compile()
  memory = step_memory(train_step, steps.shapes, size, mesh)
  variables = experiment.variable_shapes()
  flops = clip_flops(experiment, variables)
  announce(experiment, facts, data.num_clips, workdir, mesh, variables["params"], flops, memory.peak, screen)
  check_memory(memory, experiment.mesh.fsdp)
  return Ready(experiment, mesh, directory, facts, data, steps, train_step, memory, flops)
