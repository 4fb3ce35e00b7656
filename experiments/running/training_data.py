"""What a run trains on: its dataset, or several in fixed shares."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from experiments.running.assemble import Experiment
from experiments.running.dataset import prepared
from vu_jax.data.joined import JoinedSource, label_map
from vu_jax.data.loader import training_order
from vu_jax.data.order import Order, mixture
from vu_jax.data.prepare import check_split, check_stored, read_labels
from vu_jax.data.source import PreparedSource, Source


@dataclass(frozen=True)
class TrainingData:
  """The source of training clips.

  Fields:
    label_names: of all its classes.
    num_clips: that training draws from.
    labels: of all clips, where the order goes by them.
    order: None = that of the loader's options.
  """

  source: Source
  label_names: list[str]
  num_clips: int
  labels: np.ndarray | None
  order: Order | None


def training_data(
  experiment: Experiment, directory: pathlib.Path, facts: Mapping[str, Any], data_dir: pathlib.Path, screen: Console
) -> TrainingData:
  """Opens the training split of the prepared dataset in `directory`, and of all extra ones, preparing them."""
  loader, seed, names = experiment.loader, experiment.order_seed, list(facts["labels"])
  first = PreparedSource(directory, "train")
  if not experiment.extra:
    if not (loader.needs_labels or loader.max_bad_frac):
      return TrainingData(first, names, len(first), None, None)
    labels = read_labels(directory, "train")
    return TrainingData(first, names, len(training_order(loader, labels, names, seed)[0]), labels, None)
  places, sources, weights = [directory], [first], [1.0]
  for key, other in experiment.extra.items():
    place, found = prepared(other.name, other.options, data_dir, screen)
    check_split(found, "train", f"config.extra.{key}")
    check_stored(found, experiment.clip, experiment.pixels, experiment.audio)
    places.append(place)
    sources.append(PreparedSource(place, "train"))
    weights.append(other.weight)
  joined = JoinedSource(sources)
  parts = [
    label_map(source.label_names, joined.label_names)[read_labels(place, "train")]
    for source, place in zip(sources, places, strict=True)
  ]
  order = partial(mixture, joined.lengths, weights, seed)
  return TrainingData(joined, list(joined.label_names), len(joined), np.concatenate(parts), order)
