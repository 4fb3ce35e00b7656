"""What training will see: some clips, as they are and as augmentation makes them."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.running.assemble import Experiment
from vu_jax.config import plain
from vu_jax.data.augmentation.augment import Augment
from vu_jax.data.loader import load_clip
from vu_jax.data.source import PreparedSource, Source
from vu_jax.report.preview import Row, Shown, write_preview

CLIPS, DRAWS = 8, 5
_READ = 128


def preview(experiment: Experiment, directory: pathlib.Path, facts: dict[str, Any], target: pathlib.Path) -> None:
  """Writes a page of up to 8 training clips, spread over the split, with 5 draws each.

  The draws pass through the loader and, where the config mixes or colours on the device, through the training step's
  part, so the page shows exactly what the network will be given.

  Args:
    experiment: the assembled config.
    directory: of the prepared dataset.
    facts: of that dataset.
    target: new file.

  Raises:
    UserError: the file exists, or a clip cannot be loaded.
  """
  source = PreparedSource(directory, "train")
  chosen = spread(source, CLIPS)
  alter = experiment.for_classes(len(facts["labels"])).alter()
  views = [(None, "evaluation's view"), *((draw, f"draw {draw + 1}") for draw in range(DRAWS))]
  columns = [column(source, experiment, chosen, draw, name, alter) for draw, name in views]
  rows = [
    Row(source.label_names[int(source[i]["label"])], source[i]["id"], [shown[place] for shown in columns])
    for place, i in enumerate(chosen)
  ]
  write_preview(target, f"Augmentation of {facts['name']}", settings(experiment.augment), rows)


def spread(source: Source, count: int) -> list[int]:
  """Up to `count` clip numbers, of as many classes as possible, in the order of classes.

  Only some records of a large split are read, evenly spread over it.
  """
  some = sorted({round(place) for place in np.linspace(0, len(source) - 1, _READ)})
  labels = np.array([int(source[i]["label"]) for i in some])
  turns = np.array([(labels[:place] == label).sum() for place, label in enumerate(labels)])  # place within its class
  first = np.lexsort((labels, turns))[:count]
  return [some[place] for place in sorted(first, key=lambda place: (labels[place], place))]


def column(
  source: Source,
  experiment: Experiment,
  chosen: list[int],
  draw: int | None,
  name: str,
  alter: Callable[[Any, Any], Any] | None,
) -> list[Shown]:
  """One draw of all clips, as one batch, because mixing needs partners; draw None = without augmentation."""
  clips = []
  for index in chosen:
    rng = None if draw is None else np.random.default_rng((experiment.order_seed, index, draw))
    clips.append(load_clip(source, experiment.clip, experiment.pixels, index, rng, experiment.augment))
  batch: Any = {key: np.stack([clip[key] for clip in clips]) for key in clips[0]}
  if alter is not None and draw is not None:
    batch = jax.device_get(jax.jit(alter)(jax.random.key(draw), batch))
  captions = [name] * len(chosen)
  if "target" in batch:
    captions = [f"{name}: {shares(row, source)}" for row in batch["target"]]
  return [Shown(video, caption) for video, caption in zip(batch["video"], captions, strict=True)]


def shares(target: np.ndarray, source: Source) -> str:
  """(0.7, 0, 0.3) -> "70 % run, 30 % walk"."""
  found = sorted(((float(share), i) for i, share in enumerate(target) if share > 0.005), reverse=True)
  return ", ".join(f"{share:.0%} {source.label_names[i]}" for share, i in found)


def settings(augment: Augment) -> list[tuple[str, str]]:
  """What is on: the fields that differ from the defaults, and the policy's; one line that says so if nothing is."""
  of_policy = ("count", "magnitude", "magnitude_std") if augment.policy == "rand" else ()
  fields = dataclasses.fields(augment)
  changed = [f.name for f in fields if f.name in of_policy or getattr(augment, f.name) != f.default]
  values = plain(augment)
  return [(f"augment.{name}", str(values[name])) for name in changed] or [("augment", "nothing is on")]
