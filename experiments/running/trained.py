"""Opens a run directory: the experiment, its labels, and the newest state."""

import dataclasses
import json
import math
import pathlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from experiments.running.assemble import Experiment, assemble
from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.disk import write_text
from vu_jax.errors import UserError
from vu_jax.train.mesh import check_batch_size, device_mesh

DATASET = "dataset.json"


@dataclass(frozen=True)
class Trained:
  """A trained run, ready to evaluate.

  Fields:
    directory: of the prepared dataset. labels: names by index. short_side_px: of the stored frames.
    eval_step: (state, batch) -> (masked sums, outputs).
  """

  experiment: Experiment
  mesh: Mesh
  state: Any
  eval_step: Any
  directory: pathlib.Path
  labels: list[str]
  short_side_px: int


def note_dataset(workdir: pathlib.Path, directory: pathlib.Path, facts: dict[str, Any], labels: list[str]) -> None:
  """Writes what later programs need of the data, so that a run can predict without it; `labels` are all classes.

  Raises:
    UserError: the run was begun with other data, such as the same folder before videos were added to it.
  """
  path = workdir / DATASET
  if path.exists():
    before = pathlib.Path(json.loads(path.read_text())["directory"])
    # The folder above is named after options and source files; where it lies may change.
    if before.parent.name != directory.resolve().parent.name:
      raise UserError(
        f"{workdir} was begun with other data ({before}; now it is {directory}): its source or how it is prepared has "
        "changed; choose another --workdir, or bring the old data back"
      )
  about = {
    "directory": str(directory.resolve()),
    "labels": labels,
    "short_side_px": short_side(facts),
  }
  write_text(path, json.dumps(about, indent=2))


def short_side(facts: dict[str, Any]) -> int:
  """The most frequent short side of the stored training frames [px]."""
  sides: Counter[int] = Counter()
  for size, count in facts["splits"]["train"]["sizes_px"]:
    sides[min(map(int, size.split("x")))] += count
  return sides.most_common(1)[0][0]


def open_run(run: pathlib.Path, batch_size: int | None = None) -> Trained:
  """Restores the newest checkpoint of a run on this machine's devices, in as many parts as they allow.

  Raises:
    UserError: not a run directory, or a run without a checkpoint.
  """
  if not (run / "config.json").is_file() or not (run / DATASET).is_file():
    raise UserError(f"--run={run}: not a run directory (it has no config.json); launch makes one, such as runs/NAME")
  about = json.loads((run / DATASET).read_text())
  config = json.loads((run / "config.json").read_text())
  experiment = assemble(config).for_classes(len(about["labels"]))
  if batch_size:
    loader = dataclasses.replace(experiment.eval_loader(), batch_size=batch_size)
    train = dataclasses.replace(experiment.train, accumulate=1)
    experiment = dataclasses.replace(experiment, loader=loader, train=train)
  layout = dataclasses.replace(experiment.mesh, fsdp=math.gcd(experiment.mesh.fsdp, jax.device_count()))
  mesh = device_mesh(layout)
  check_batch_size(mesh.size, experiment.eval_loader().batch_size)
  steps = experiment.steps(mesh)
  checkpoints = Checkpoints(run, read_only=True)
  if checkpoints.latest() is None:
    raise UserError(f"--run={run}: has no checkpoint yet; continue it with the launch command that began it")
  state = checkpoints.restore(steps.shapes)
  checkpoints.close()
  directory = pathlib.Path(about["directory"])
  return Trained(experiment, mesh, state, steps.evaluate, directory, about["labels"], about["short_side_px"])
