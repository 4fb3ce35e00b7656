"""PREPARE: a builder's options -> a prepared dataset on disk, and what is in it."""

import json
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int

from vu_jax.data.audio.window import NO_AUDIO, Audio, check_sound
from vu_jax.data.clips import Clip, check_length
from vu_jax.data.describe import FACTS, LABELS, write_labels
from vu_jax.data.parts import Shard
from vu_jax.data.preparation import Preparation, Progress, Say
from vu_jax.data.video.view import Pixels, resized
from vu_jax.errors import UserError


def default_data_dir() -> pathlib.Path:
  """Where prepared datasets live: $VU_JAX_DATA, else ~/.cache/vu_jax."""
  return pathlib.Path(os.environ.get("VU_JAX_DATA") or pathlib.Path.home() / ".cache" / "vu_jax")


def prepare(
  name: str,
  options: Any,
  data_dir: pathlib.Path,
  progress: Progress | None = None,
  say: Say | None = None,
  take_over: bool = True,
) -> pathlib.Path:
  """Builds the dataset unless it is there already, from where an earlier call was broken off.

  Several processes may do so at once: they share the work, or wait for each other.

  Args:
    name: file of `vu_jax/data/builders`, or a dotted path.
    options: its `Options`.
    data_dir: parent of all prepared datasets.
    progress: called with (clips done, clips in all), whoever did them.
    say: called with one line where the user should know something.
    take_over: False = if the dataset is being prepared in shards and some are missing, raise a UserError that names
      them instead of doing their work.

  Returns:
    The prepared folder, `data_dir/<name>/<fingerprint>/<version>`; `facts.json` in it says that it is complete.
  """
  found = Preparation(name, options, data_dir, progress, say)
  if found.is_complete():
    return found.directory
  if not found.in_parts:
    found.make_in_one_go()
    return found.directory
  missing = [] if take_over else found.missing_shards()
  if missing:
    raise UserError(
      f"the dataset is prepared in {missing[0].of} shards, and {shards_text(missing)} missing: prepare them, as with "
      f"--shard={missing[0]}, or let prepare without --shard do what is left"
    )
  found.make_parts()
  return found.directory


def prepare_shard(
  name: str,
  options: Any,
  data_dir: pathlib.Path,
  shard: Shard,
  progress: Progress | None = None,
  say: Say | None = None,
  threads: int = 0,
) -> list[Shard]:
  """Builds one shard of a dataset, and the dataset from all shards if it was the last one.

  Args:
    name, options, data_dir, say: as of `prepare`.
    shard: which.
    progress: called with (clips done, clips of the shard).
    threads: that encode; 0 = one per core.

  Returns:
    The shards that are still missing; none = the dataset is complete.

  Raises:
    UserError: datasets of this kind are prepared in one go.
  """
  found = Preparation(name, options, data_dir, progress, say, threads)
  if found.is_complete():
    return []
  if not found.in_parts:
    raise UserError(f'config.data.name = "{name}": such a dataset is prepared in one go; leave out --shard and --jobs')
  return found.make_parts(shard)


def shards_text(missing: list[Shard]) -> str:
  """ "1/3 and 2/3 are", or "1/300, 2/300, ... (298) are": the first few, with the verb."""
  names = [str(shard) for shard in missing[:8]]
  if len(missing) > len(names):
    return f"{', '.join(names)}, ... ({len(missing)} in all) are"
  return f"{' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} {'are' if len(names) > 1 else 'is'}"


def read_facts(directory: pathlib.Path) -> dict[str, Any]:
  """The facts of a prepared dataset: name, options, labels, splits, rejected files."""
  return json.loads((directory / FACTS).read_text())


def read_labels(directory: pathlib.Path, split: str) -> Int[np.ndarray, " N"]:
  """The label of every example of a split, by index, without opening the examples.

  A dataset that was prepared before labels were kept is read through once, and they are kept from then on.
  """
  path = directory / LABELS.format(split)
  if not path.is_file():
    source = tfds.builder_from_directory(directory).as_data_source(split)
    write_labels(directory, split, [int(source[i]["label"]) for i in range(len(source))])
  return np.load(path)


def check_split(facts: dict[str, Any], split: str, where: str) -> None:
  """Raises UserError if the dataset lacks a split; `where` is the key that named it."""
  if split not in facts["splits"]:
    have = ", ".join(facts["splits"])
    raise UserError(f'{where} = "{split}": the dataset has no such split (it has {have})')


def check_stored(facts: dict[str, Any], clip: Clip, pixels: Pixels, audio: Audio = NO_AUDIO) -> None:
  """Raises UserError if a stored video cannot give the configured clip: the shortest, smallest or a silent one."""
  for split, about in facts["splits"].items():
    check_sound(audio, about.get("sound"), about["clips"], split)
    shortest, smallest = about["shortest"], about["smallest"]
    try:
      check_length(clip, shortest["num_frames"], shortest["fps"])
    except UserError as error:
      raise UserError(f"{split} video {shortest['id']}: {error}") from None
    try:
      resized(pixels, smallest["height"], smallest["width"])
    except UserError as error:
      raise UserError(f"{split} video {smallest['id']}: {error}") from None
