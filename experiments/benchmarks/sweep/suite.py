"""The suite "sweep": eight trials as one population, against the same trials one after the other.

A row's time is that of some steps of all trials, with the loader: a population decodes each clip once, runs of their
own decode it eight times. Both train the same members to the same losses. Compilation is not in the time.
"""

import itertools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.loader import videos
from experiments.benchmarks.timing import Contender, Options, Row
from experiments.groups.members import population_of, together
from experiments.running.assemble import Experiment, assemble
from vu_jax.cost import peak_bytes
from vu_jax.data.loader import train_batches
from vu_jax.data.video.stores import Store
from vu_jax.train.mesh import device_mesh, to_devices

TRIALS, STEPS, BATCH = 8, 6, 8
IN_TURN = "one after the other"
VARY = ("optim.lr_peak",)
LEARNING_RATES = np.geomspace(1e-4, 1e-2, TRIALS)


@dataclass(frozen=True)
class Load:
  """What a trial decodes and computes.

  Fields:
    store: of the videos, see `data/video/stores.py`.
    clip, pixels, model: sections of its config.
  """

  store: Store
  clip: Mapping[str, Any]
  pixels: Mapping[str, Any]
  model: Mapping[str, Any]


LOADS = {
  "decode-bound": Load(
    "source",
    {"num_frames": 16, "stride_f": 4, "short": "repeat"},
    {"short_side": 36, "crop": 32},
    {"name": "conv_lstm", "stem": ((8, 4),), "hidden": (8,), "neck": (16,)},
  ),
  "compute-bound": Load(
    "intra",
    {"num_frames": 8, "stride_f": 2, "short": "repeat"},
    {"short_side": 64, "crop": 56},
    {"name": "conv_lstm", "stem": ((16, 2),), "hidden": (16, 32), "neck": (64,)},
  ),
}


def cases(options: Options) -> list[Row]:
  """One row per load."""
  root = options.videos or videos.folder()
  return [
    Row(
      name=f"{TRIALS} trials, {name}",
      kind="sweeps",
      pass_="train",
      dtype="float32",
      shapes={"clips": (STEPS * BATCH, load.clip["num_frames"], load.pixels["crop"], load.pixels["crop"], 3)},
      flops=lambda: 0.0,
      tolerance=1e-3,
      contenders=partial(contenders, load, root),
      peers=(IN_TURN,),
      baseline=IN_TURN,
    )
    for name, load in LOADS.items()
  ]


def contenders(load: Load, root: pathlib.Path) -> Mapping[str, Callable[[], Contender]]:
  """All at once, and groups of one."""
  trials = experiments(load)
  each = [(trial,) for trial in trials]
  return {"ours": partial(contender, load, root, [trials]), IN_TURN: partial(contender, load, root, each)}


def contender(load: Load, root: pathlib.Path, groups: Sequence[Sequence[Experiment]]) -> Contender:
  """Trains these populations, each with a loader of its own; they share one program."""
  begun = time.perf_counter()
  mesh, size = device_mesh(), len(groups[0])
  population = population_of(mesh, groups[0], VARY)
  values = [together(group, VARY)[1] for group in groups]
  compiled = population.train.lower(values[0], population.shapes, groups[0][0].batch_shapes()).compile()
  compile_s = time.perf_counter() - begun

  source = videos.prepared(load.store, root)

  def train(group: Sequence[Experiment], values: Any) -> Any:
    on = group[0]
    state, metrics = population.init([e.seed for e in group]), {}
    batches = train_batches(source, on.clip, on.pixels, on.loader, on.order_seed, on.augment)
    for batch in itertools.islice(batches, STEPS):
      state, metrics = compiled(values, state, to_devices(mesh, batch))
    jax.block_until_ready(state)
    getattr(batches, "close", lambda: None)()
    return metrics["objective"]

  def start() -> list[Any]:
    return [train(group, own) for group, own in zip(groups, values, strict=True)]

  def read(losses: list[Any]) -> list[np.ndarray]:
    return [np.concatenate([np.asarray(total) / np.asarray(weight) for total, weight in losses])]

  return Contender(start, lambda losses: losses, read, f"{size} at once", compile_s, peak_bytes(compiled))


def experiments(load: Load) -> list[Experiment]:
  """Trials that differ in seed and learning rate."""
  shared = {
    "data": {"name": "video_folder", "root": "."},
    "clip": {"sampling": "dense", **load.clip},
    "pixels": dict(load.pixels),
    "loader": {"batch_size": BATCH, "order_seed": 0},
    "model": dict(load.model),
    "task": {"name": "classify"},
  }
  trials = enumerate(LEARNING_RATES.tolist())
  return [assemble({**shared, "seed": n, "optim": {"lr_peak": rate}}).for_classes(2) for n, rate in trials]
