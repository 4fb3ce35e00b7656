"""LOADER: Grain from stored clips to batches: shuffled, sharded per host, decoded in threads, resumable.

Threads, not processes: decoding and resizing release the GIL, and nothing has to be copied between processes.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import grain
import jax
import numpy as np

from vu_jax.data.augment import Pixels, see
from vu_jax.data.clips import Clip, Rng, frame_numbers
from vu_jax.data.decode import VideoError, decode_frames
from vu_jax.data.source import Source
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero

Batch = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Loader:
  """How batches are made.

  Fields:
    batch_size: B over all devices and hosts.
    threads: decoding threads of this host; 0 = one per core.
    prefetch: batches decoded ahead, at least one per thread.
  """

  batch_size: Count = 16
  threads: CountOrZero = 0
  prefetch: Count = 4


def load_clip(source: Source, clip: Clip, pixels: Pixels, index: int, rng: Rng) -> dict[str, np.ndarray]:
  """Reads, decodes and crops one clip; rng None = evaluation.

  Raises:
    UserError: the stored video cannot be decoded, or is too short; the message names it.
  """
  example = source[index]
  try:
    frames = frame_numbers(clip, int(example["num_frames"]), float(example["fps"]), rng)
    video = see(decode_frames(example["video"], frames), pixels, rng)
  except (VideoError, UserError) as error:
    raise UserError(f"{example['id']}: {error}") from error
  return {
    "video": video,
    "label": np.array(example["label"], np.int32),
    "index": np.array(index, np.int32),
    "mask": np.array(1, np.float32),
  }


def train_batches(source: Source, clip: Clip, pixels: Pixels, loader: Loader, seed: int) -> Any:
  """An endless, resumable iterator over this host's share of shuffled batches.

  Each epoch has a new order and new crops; both depend on seed and position alone, not on threads, and not on the
  number of hosts: they deal out one stream. The iterator's `get_state` and `set_state` continue it exactly.
  """
  host, hosts = jax.process_index(), jax.process_count()
  read = partial(_load_random, source, clip, pixels)
  clips = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat().random_map(read)
  return iter(_threaded(clips[host::hosts].batch(_local(loader, hosts)), loader))


def eval_batches(source: Source, clip: Clip, pixels: Pixels, loader: Loader) -> Iterator[Batch]:
  """This host's share of one exact pass: every clip once, the last batch filled up with mask 0."""
  host, hosts = jax.process_index(), jax.process_count()
  size = loader.batch_size
  padded = -(-len(source) // size) * size
  read = partial(_load_or_pad, source, clip, pixels)
  clips = grain.MapDataset.range(padded)[host::hosts].map(read).batch(_local(loader, hosts))
  return iter(_threaded(clips, loader))


def num_eval_batches(source: Source, loader: Loader) -> int:
  return -(-len(source) // loader.batch_size)


def _load_random(source: Source, clip: Clip, pixels: Pixels, index: int, rng: np.random.Generator) -> Any:
  return load_clip(source, clip, pixels, index, rng)


def _load_or_pad(source: Source, clip: Clip, pixels: Pixels, index: int) -> Any:
  if index < len(source):
    return load_clip(source, clip, pixels, index, None)
  video = np.zeros((clip.num_frames, pixels.crop, pixels.crop, 3), np.uint8)
  zero = np.zeros((), np.int32)
  return {"video": video, "label": zero, "index": zero, "mask": np.zeros((), np.float32)}


def _threaded(batches: Any, loader: Loader) -> Any:
  threads = loader.threads or os.cpu_count() or 1
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(loader.prefetch, threads))
  return batches.to_iter_dataset(options)


def _local(loader: Loader, hosts: int) -> int:
  if loader.batch_size % hosts:
    raise UserError(f"config.loader.batch_size = {loader.batch_size}: must be a multiple of the {hosts} hosts")
  return loader.batch_size // hosts
