"""A program for four forced CPU devices: trains one small network on every mesh, and prints what came out as JSON.

It runs in a process of its own, because the number of devices is fixed when JAX starts.
"""

import json
import pathlib
import tempfile
from functools import cache
from typing import Any

import flax.linen as nn
import grain
import jax
import numpy as np
import optax
from einops import reduce

from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.layers.norm import batch_norm
from vu_jax.net import Net
from vu_jax.tasks.classify import Task
from vu_jax.train.mesh import Layout, device_mesh, to_devices
from vu_jax.train.population import Over, Trial, compile_population
from vu_jax.train.step import Steps, compile_steps

TASK, CLIPS, STEPS = Task(num_classes=4, dropout=0.2), 8, 4
# (devices, of which so many hold one copy of the state)
MESHES = {"1": (1, 1), "2": (2, 1), "2 fsdp": (2, 2), "4": (4, 1), "4 fsdp 2": (4, 2)}
SHARD_MIN_SIZE = 6  # the vectors of 8 are divided, too


class Normed(nn.Module):
  """Pixels -> linear -> batch norm -> mean: what a clip gives depends on all clips of the batch."""

  dtype: str = "float32"

  @nn.compact
  def __call__(self, video: Any, *, train: bool) -> dict[str, Any]:
    x = nn.Dense(8, use_bias=False, name="mix")(video)
    x = batch_norm(train=train)(name="norm")(x)
    x = nn.relu(x)
    return {"tokens": x, "pooled": reduce(x, "b t h w c -> b c", "mean")}


def batches() -> list[dict[str, np.ndarray]]:
  """One per step, the clips of which are so different that parts of a batch have other statistics."""
  rng = np.random.default_rng(0)
  scale = np.linspace(20, 255, CLIPS)[:, None, None, None, None]
  label = np.arange(CLIPS, dtype=np.int32)
  return [
    {
      "video": (rng.uniform(size=(CLIPS, 2, 4, 4, 3)) * scale).astype(np.uint8),
      "label": label % 4,
      "index": label,
      "mask": np.ones(CLIPS, np.float32),
    }
    for _ in range(STEPS)
  ]


@cache
def steps_on(devices: int, fsdp: int, parts: int = 1) -> tuple[Any, Steps]:
  mesh = device_mesh(Layout(fsdp=fsdp), jax.devices()[:devices])
  net, tx = Net(Normed(), TASK.head()), optax.sgd(0.5, momentum=0.9)
  return mesh, compile_steps(mesh, net, TASK, tx, batches()[0], None, parts, 0.5, SHARD_MIN_SIZE)


def trained(mesh: Any, steps: Steps, state: Any, given: list[dict[str, np.ndarray]]) -> tuple[Any, list[float]]:
  """The state after these batches, and the loss of each step."""
  losses = []
  for batch in given:
    state, metrics = steps.train(state, to_devices(mesh, batch))
    losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
  return state, losses


def outcome(devices: int, fsdp: int, parts: int = 1) -> dict[str, Any]:
  """Losses, logits of the average, statistics, and where the arrays lie."""
  mesh, steps = steps_on(devices, fsdp, parts)
  state, losses = trained(mesh, steps, steps.init(3), batches())
  _, out = steps.evaluate(state, to_devices(mesh, batches()[0]))
  kernel, moment = state.params["backbone"]["mix"]["kernel"], state.opt_state[0].trace["backbone"]["mix"]["kernel"]
  average = state.average["backbone"]["mix"]["kernel"]
  return {
    "losses": losses,
    "logits": np.asarray(out["logits"]).tolist(),
    "mean": np.asarray(state.mutable["batch_stats"]["backbone"]["norm"]["mean"]).tolist(),
    "held": [list(x.addressable_shards[0].data.shape) for x in (kernel, moment, average)],
  }


def resumed(devices: int, fsdp: int, workdir: pathlib.Path) -> list[float]:
  """The losses of the last two steps, from the checkpoint behind the first two."""
  mesh, steps = steps_on(devices, fsdp)
  checkpoints, position = Checkpoints(workdir), iter(grain.MapDataset.range(STEPS).to_iter_dataset())
  state = checkpoints.restore(steps.shapes, position)
  checkpoints.close()
  return trained(mesh, steps, state, [batches()[i] for i in position])[1]


def saved(workdir: pathlib.Path) -> None:
  """Two steps on four devices, which hold the state in parts, and a checkpoint."""
  mesh, steps = steps_on(*MESHES["4 fsdp 2"])
  checkpoints, position = Checkpoints(workdir), iter(grain.MapDataset.range(STEPS).to_iter_dataset())
  state, _ = trained(mesh, steps, steps.init(3), [batches()[next(position)] for _ in range(2)])
  checkpoints.save(2, state, position, None)
  checkpoints.close()


def population(devices: int, fsdp: int, over: Over) -> dict[str, Any]:
  """Four members with seeds and rates of their own: the losses of the last step, and how a device holds a kernel."""
  mesh, net = device_mesh(Layout(fsdp=fsdp), jax.devices()[:devices]), Net(Normed(), TASK.head())
  values = {"rate": np.float32([0.5, 0.1, 0.2, 0.3])}

  def trial(values: Any) -> Trial:
    return Trial(net, TASK, optax.sgd(values["rate"], momentum=0.9), None, 0.5)

  options: dict[str, Any] = {"shard_min_size": SHARD_MIN_SIZE, "over": over}
  steps = compile_population(mesh, trial, values, 4, batches()[0], **options).steps(values)
  state = steps.init([3, 4, 5, 6])
  for batch in batches():
    state, metrics = steps.train(state, to_devices(mesh, batch))
  kernel = state.params["backbone"]["mix"]["kernel"]
  losses = (metrics["loss"][0] / metrics["loss"][1]).tolist()
  return {"losses": losses, "held": list(kernel.addressable_shards[0].data.shape)}


if __name__ == "__main__":
  found: dict[str, Any] = {name: outcome(*shape) for name, shape in MESHES.items()}
  found |= {f"{name} in 2 parts": outcome(*MESHES[name], parts=2) for name in ("1", "4 fsdp 2")}
  found["population"] = {
    "1": population(1, 1, "members"),
    "4 members": population(4, 1, "members"),
    "4 fsdp 2 clips": population(4, 2, "clips"),
  }
  with tempfile.TemporaryDirectory() as folder:
    saved(pathlib.Path(folder))
    found["resumed"] = {name: resumed(*MESHES[name], pathlib.Path(folder)) for name in ("1", "2", "2 fsdp")}
  print(json.dumps(found))
