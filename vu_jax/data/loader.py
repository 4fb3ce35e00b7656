"""LOADER: Grain from stored clips to batches: ordered, sharded per host, decoded in threads, resumable.

Threads, not processes: decoding and resizing release the GIL, and nothing has to be copied between processes. Where
augmentation holds the GIL for long, `workers` decode in processes; the batches are the same.
"""

import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import cv2
import grain
import jax
import numpy as np
from absl import flags

from vu_jax.data.audio.window import NO_AUDIO, Audio, clip_sound, silence
from vu_jax.data.augmentation.augment import Augment, augmented
from vu_jax.data.clips import Clip, Rng, frame_numbers, in_order, ordered
from vu_jax.data.clips_time import second_line
from vu_jax.data.order import Order, Rule, Stream, choose_order, subset
from vu_jax.data.protocol import ONE_VIEW, Eval
from vu_jax.data.quarantine import Quarantine, in_time, load_or_replace
from vu_jax.data.share import Share
from vu_jax.data.source import Source
from vu_jax.data.video.decode import VideoError
from vu_jax.data.video.stores import decode_clip
from vu_jax.data.video.view import Pixels, choose_view
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, PositiveOrZero, Range

Batch = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Loader:
  """How batches are made.

  Fields:
    batch_size: B over all devices and hosts.
    threads: decoding threads of this host; 0 = one per core.
    prefetch: batches decoded ahead, at least one per thread.
    workers: training: decoding processes of this host, which share its threads; 0 = none. A run is continued with as
      many as it began with. Each costs seconds to start, and they outlive a run that is killed.
    order: "shuffle": each clip once per epoch; "balanced": each class equally often; "classes_by_clips": batches of P
      classes with K clips each; see `data/order.py`. The figures of evaluation know no order.
    clips_per_class: K; P is batch_size / K. A class with fewer clips repeats them.
    order_seed: of the order of training clips, and of what is drawn for them on the host (frames, crops, augmentation);
      -1 = the run's seed. Trials that train as one population share it.
    subset_per_class: train on so many clips of each class; 0 = all.
    subset_frac: or on this share of each class. Smaller subsets lie inside of larger ones.
    subset_seed: which ones; apart from the run's seed, so that runs with other seeds train on the same clips.
    max_bad_frac: training goes on without clips that cannot be read, until more than this share of them has failed;
      0 = the first one ends the run. Evaluation is always strict.
    timeout_s: a clip that takes longer to decode counts as unreadable; 0 = wait for ever. The thread that hangs is
      left behind until the program ends.
  """

  batch_size: Count = 16
  threads: CountOrZero = 0
  prefetch: Count = 4
  workers: CountOrZero = 0
  order: Rule = "shuffle"
  clips_per_class: Count = 4
  order_seed: Annotated[int, Range(low=-1)] = -1
  subset_per_class: CountOrZero = 0
  subset_frac: Annotated[float, Range(low=1e-9, high=1)] = 1.0
  subset_seed: CountOrZero = 0
  max_bad_frac: Fraction = 0.0
  timeout_s: PositiveOrZero = 0.0

  def __post_init__(self) -> None:
    if self.order == "classes_by_clips" and self.batch_size % self.clips_per_class:
      raise UserError(
        f"clips_per_class = {self.clips_per_class}: must divide batch_size = {self.batch_size} for order = "
        '"classes_by_clips"'
      )
    if self.subset_per_class and self.subset_frac < 1:
      raise UserError(f"subset_per_class = {self.subset_per_class} and subset_frac = {self.subset_frac:g}: give one")

  @property
  def needs_labels(self) -> bool:
    """Whether the order goes by classes."""
    return self.order != "shuffle" or self.subset_per_class > 0 or self.subset_frac < 1


def load_clip(
  source: Source,
  clip: Clip,
  pixels: Pixels,
  index: int,
  rng: Rng,
  augment: Augment = Augment(),
  views: Eval = ONE_VIEW,
  view: int = 0,
  timeout_s: float = 0.0,
  audio: Audio = NO_AUDIO,
) -> dict[str, np.ndarray]:
  """Reads, decodes, crops and augments one clip; rng None = evaluation, which does not augment.

  Args:
    source: of the examples. clip, pixels, augment: the rules. index: of the example.
    rng: of training.
    views, view: which of the views evaluation takes.
    timeout_s: for decoding; 0 = none.
    audio: the rule for the sound; augmentation leaves it as it is.

  Raises:
    UserError: the stored video cannot be decoded, not in time, is too short or silent; the message names it.
  """
  example = source[index]
  try:
    height, width = int(example["height"]), int(example["width"])
    wanted = frame_numbers(
      clip, int(example["num_frames"]), float(example["fps"]), rng, example.get("times_s"), views.clip(view)
    )
    frames, back = in_order(ordered(clip, wanted, rng, zlib.crc32(str(example["id"]).encode()), view))
    window = choose_view(pixels, height, width, rng, views.place(view, height, width))
    video = in_time(timeout_s, partial(decode_clip, example["video"], frames, window))
    video = video if back is None else video[back]
    sound = _sound(example, clip, audio, wanted) if audio.rate_hz else {}
  except (VideoError, UserError, TimeoutError) as error:
    raise UserError(f"{example['id']}: {error}") from error
  return {
    "video": augmented(video, augment, rng),
    "label": np.array(example["label"], np.int32),
    "index": np.array(index, np.int32),
    "mask": np.array(1, np.float32),
    **sound,
  }


def train_batches(
  source: Source,
  clip: Clip,
  pixels: Pixels,
  loader: Loader,
  seed: int,
  augment: Augment = Augment(),
  labels: np.ndarray | None = None,
  quarantine: pathlib.Path | None = None,
  order: Order | None = None,
  audio: Audio = NO_AUDIO,
) -> Any:
  """An endless, resumable iterator over this host's share of ordered batches.

  Each epoch has a new order, new crops and new augmentations; all depend on seed and position alone, not on threads,
  and not on the number of hosts: they deal out one stream. The iterator's `get_state` and `set_state` continue it
  exactly. Call its `close`, if it has one, when done.

  Args:
    source: of the training clips. clip, pixels, augment, loader: the rules.
    seed: of order, crops and augmentations.
    labels: of all examples; None = read from the source where the order needs them.
    quarantine: file that names the clips that cannot be read; None = they are kept in memory.
    order: replaces that of `loader`, such as a `mixture` of the parts of a concatenated source.
    audio: the rule for the sound.

  Raises:
    UserError: the order cannot be had of these labels, or the batch not be shared among the hosts.
  """
  host, hosts = jax.process_index(), jax.process_count()
  size = _local(loader, hosts)
  if labels is None and loader.needs_labels:
    labels = np.array([int(source[i]["label"]) for i in range(len(source))])
  pool = np.arange(len(source))
  if labels is not None and loader.needs_labels:
    pool, chosen = training_order(loader, labels, source.label_names, seed)
    order = order or chosen
  read = partial(_load_random, source, clip, pixels, augment, loader.timeout_s, audio)
  if loader.max_bad_frac:
    kept = Quarantine(quarantine, len(pool), loader.max_bad_frac)
    read = partial(load_or_replace, read, kept, partial(_substitutes, pool, labels))
  if order is None:  # Grain's own shuffle, which earlier versions trained with
    stream = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
  else:
    stream = grain.MapDataset.source(Stream(order)).seed(seed)
  return iter(_threaded(Share(stream.random_map(read), host, hosts, size).batch(size), loader, loader.workers))


def training_order(
  loader: Loader, labels: np.ndarray, label_names: Sequence[str], seed: int
) -> tuple[np.ndarray, Order]:
  """The examples that training draws from, and their order; raises UserError if these labels do not allow it."""
  pool = subset(labels, loader.subset_per_class, loader.subset_frac, loader.subset_seed, label_names)
  return pool, choose_order(loader.order, labels, pool, loader.batch_size, loader.clips_per_class, seed)


def eval_batches(
  source: Source,
  clip: Clip,
  pixels: Pixels,
  loader: Loader,
  views: Eval = ONE_VIEW,
  audio: Audio = NO_AUDIO,
) -> Iterator[Batch]:
  """This host's share of one exact pass: every view of every clip once, the last batch filled up with mask 0.

  Batches also hold `view`: the number of the view, 0 .. V-1; all views of a clip follow each other.
  """
  host, hosts = jax.process_index(), jax.process_count()
  padded = num_eval_batches(source, loader, views) * loader.batch_size
  read = partial(_load_or_pad, source, clip, pixels, views, loader.timeout_s, audio)
  clips = grain.MapDataset.range(padded)[host::hosts].map(read).batch(_local(loader, hosts))
  return iter(_threaded(clips, loader))


def num_eval_batches(source: Source, loader: Loader, views: Eval = ONE_VIEW) -> int:
  return -(-len(source) * views.num_views // loader.batch_size)


def _load_random(
  source: Source,
  clip: Clip,
  pixels: Pixels,
  augment: Augment,
  timeout_s: float,
  audio: Audio,
  index: int,
  rng: np.random.Generator,
) -> Any:
  return load_clip(source, clip, pixels, int(index), rng, augment, timeout_s=timeout_s, audio=audio)


def _substitutes(pool: np.ndarray, labels: np.ndarray | None, index: int) -> list[np.ndarray]:
  """Where a clip is replaced from: its own class, then all."""
  return [pool] if labels is None else [pool[labels[pool] == labels[index]], pool]


def _load_or_pad(
  source: Source, clip: Clip, pixels: Pixels, views: Eval, timeout_s: float, audio: Audio, place: int
) -> Any:
  index, view = divmod(place, views.num_views)
  number = np.array(view, np.int32)
  if index < len(source):
    found = load_clip(source, clip, pixels, index, None, views=views, view=view, timeout_s=timeout_s, audio=audio)
    return found | {"view": number}
  video = np.zeros((clip.num_frames, pixels.crop, pixels.crop, 3), np.uint8)
  zero = np.zeros((), np.int32)
  sound = silence(audio, clip) if audio.rate_hz else {}
  return {"video": video, "label": zero, "index": zero, "mask": np.zeros((), np.float32), "view": number, **sound}


def _sound(example: Mapping[str, Any], clip: Clip, audio: Audio, frames: np.ndarray) -> dict[str, np.ndarray]:
  """The batch keys of the sound of a clip that takes these frames."""
  if "audio" not in example:
    raise UserError('the dataset was prepared without sound; set config.data.audio = "flac"')
  fps = float(example["fps"])
  starts_s = second_line(int(example["num_frames"]), fps, example.get("times_s")).starts
  return clip_sound(example["audio"], audio, clip, starts_s[frames], 1 / fps)


def _threaded(batches: Any, loader: Loader, workers: int = 0) -> Any:
  cv2.setNumThreads(1)  # the threads here are enough
  threads = loader.threads or os.cpu_count() or 1
  each = max(threads // max(workers, 1), 1)
  ahead = max(loader.prefetch // max(workers, 1), each)
  found = batches.to_iter_dataset(grain.ReadOptions(num_threads=each, prefetch_buffer_size=ahead))
  if not workers:
    return found
  if not flags.FLAGS.is_parsed():  # Grain's processes read absl's flags; our programs have none
    flags.FLAGS.mark_as_parsed()
  return found.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1))


def _local(loader: Loader, hosts: int) -> int:
  if loader.batch_size % hosts:
    raise UserError(f"config.loader.batch_size = {loader.batch_size}: must be a multiple of the {hosts} hosts")
  return loader.batch_size // hosts
