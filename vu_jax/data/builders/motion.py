"""Motion directions, drawn: eight classes that only the order of the frames tells apart."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vu_jax.config import digest
from vu_jax.data.features import clip_features
from vu_jax.data.motion_scene import LABELS, Scene, draw
from vu_jax.data.video.transcode import encode_video
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Positive

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Options:
  """Size of the dataset and of its clips.

  Fields:
    num_train, num_validation, num_test: clips, spread evenly over the eight labels.
    size_px: side of the frames. num_frames, fps: length and rate of each clip.
    lifetime_f: frames that a sprite lives; shorter than a clip, so that its ends share nothing.
    sprites: in view on average.
    radius_frac, speed_frac: ranges of the sprites' radius and speed per frame, as shares of the side.
    seed: of everything that is drawn.
  """

  num_train: Count = 2000
  num_validation: CountOrZero = 200
  num_test: Count = 400
  size_px: Count = 64
  num_frames: Count = 10
  fps: Positive = 12.0
  lifetime_f: Count = 6
  sprites: Positive = 8.0
  radius_frac: tuple[Positive, Positive] = (0.06, 0.13)
  speed_frac: tuple[Positive, Positive] = (0.06, 0.09)
  seed: CountOrZero = 0

  def __post_init__(self) -> None:
    if self.lifetime_f >= self.num_frames:
      raise UserError(f"lifetime_f = {self.lifetime_f}: must be below num_frames = {self.num_frames}")
    if self.size_px % 2:
      raise UserError(f"size_px = {self.size_px}: must be even, as video codecs want it")


def fingerprint(options: Options) -> str:
  return digest(options)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Eight motions of textured sprites; see `motion_scene` for why single frames tell nothing."""

  name = "motion"
  VERSION = tfds.core.Version("1.0.0")

  rejected: tuple[tuple[str, str], ...] = ()
  progress: Callable[[int, int], None] = staticmethod(lambda done, total: None)

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=clip_features(LABELS))

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
    del dl_manager  # nothing to download
    options = self.builder_config.options
    sizes = (options.num_train, options.num_validation, options.num_test)
    self._done, self._total = 0, sum(sizes)
    # Drawing holds the GIL, so it needs processes; fresh ones, because JAX's threads do not survive a fork.
    self._workers = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))
    return {split: self._clips(split, n) for split, n in zip(SPLITS, sizes, strict=True) if n}

  def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    raise NotImplementedError("the splits bring their own generators")

  def _clips(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    make = partial(example, self.builder_config.options, split)
    few = self._total < 500  # starting the workers takes longer than drawing so few
    run = map(make, range(count)) if few else self._workers.map(make, range(count), chunksize=25)
    for index, stored in enumerate(run):
      self._done += 1
      self.progress(self._done, self._total)
      yield index, stored
    if self._done == self._total:
      self._workers.shutdown()


def example(options: Options, split: str, index: int) -> dict[str, Any]:
  """Clip number `index` of a split, encoded; a function of (options, split, index) alone."""
  scene = Scene(
    options.size_px,
    options.num_frames,
    options.lifetime_f,
    options.sprites,
    options.radius_frac,
    options.speed_frac,
  )
  label = LABELS[index % len(LABELS)]
  rng = np.random.default_rng((options.seed, SPLITS.index(split), index))
  stored = encode_video(draw(scene, label, rng), options.fps)
  return {
    "video": stored.video,
    "label": label,
    "id": f"{split}/{index:05d}_{label}",
    "num_frames": stored.num_frames,
    "fps": stored.fps,
    "height": stored.height,
    "width": stored.width,
  }
