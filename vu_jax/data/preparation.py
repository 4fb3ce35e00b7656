"""One dataset on its way to the disk: in one go, or in parts by one or many processes."""

import contextlib
import functools
import itertools
import json
import logging
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from vu_jax.config import find_module, plain
from vu_jax.data.changes import SOURCES, changes, write_sources
from vu_jax.data.claims import WHOLE, Claims
from vu_jax.data.describe import FACTS, Columns, described, read_columns, write_labels
from vu_jax.data.features import ClipsConfig
from vu_jax.data.listing.folders import Clip
from vu_jax.data.parallel import in_order
from vu_jax.data.part_files import assemble, made_with, read_rejected, write_part
from vu_jax.data.parts import Parts, Shard
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.transcode import Encoded
from vu_jax.disk import free_bytes, write_text
from vu_jax.errors import UserError

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
Item = tuple[int, Clip]  # a clip and the number of its part
_LOOK_AGAIN_S = 0.2


class Preparation:
  """The work that is left, and who does it.

  Fields:
    directory: of the complete dataset; it appears at once, with all that belongs to it.
    folder: around it; until then `parts/` is there, and for good a file for `Claims` and what the clips are made from.
    in_parts: whether the builder can make single clips; else it prepares everything in one go.
  """

  def __init__(
    self,
    name: str,
    options: Any,
    data_dir: pathlib.Path,
    progress: Progress | None = None,
    say: Say | None = None,
    threads: int = 0,
  ):
    module = find_module("data", name)
    config = ClipsConfig(name=module.fingerprint(options), options=options)
    tfds.disable_progress_bar()
    _quiet()
    self._name, self._options, self._data_dir, self._threads = name, options, data_dir, threads
    self._progress, self._say = progress or (lambda done, total: None), say or (lambda text: None)
    self._builder = module.Builder(data_dir=data_dir, config=config)
    self.directory = pathlib.Path(self._builder.data_dir)
    self.folder = self.directory.parent
    self._is_written = (self.directory / "dataset_info.json").exists()  # if without facts, these are all it lacks
    self.in_parts = hasattr(self._builder, "make") and not self._is_written

  @functools.cached_property
  def parts(self) -> Parts:
    return Parts(self.folder / "parts", self._builder.clips)

  def is_complete(self) -> bool:
    """Whether the dataset is there; raises a UserError if more is rejected than the options allow now."""
    if not self._exists():
      return False
    if hasattr(self._builder, "check_rejected"):
      rejected = json.loads((self.directory / FACTS).read_text())["rejected"]
      self._builder.check_rejected([(item["id"], item["reason"]) for item in rejected])
    shutil.rmtree(self.folder / "parts", ignore_errors=True)  # what a process that was killed at the end has left
    return True

  def missing_shards(self) -> list[Shard]:
    """Those of the shards that were last asked for that are not finished; none if nobody asked for shards."""
    return self.parts.missing_shards(self.parts.noted_shards())

  def count(self) -> tuple[int, int]:
    """Clips in finished parts, and in all."""
    total = len(self._builder.clips)
    if self._exists():
      return total, total
    return total - self.parts.count(self.parts.missing(self.parts.of(None))), total

  def make_in_one_go(self) -> None:
    """Lets the builder write the dataset."""
    if hasattr(self._builder, "estimated_bytes") and not self._is_written:
      _check_space(self._data_dir, self._builder.estimated_bytes())
    with Claims(self.folder / "lock") as claims, claims.held(WHOLE, self._waiting()):
      if self._exists():
        return
      self._builder.progress = self._progress
      with contextlib.redirect_stdout(None):  # its prints speak of downloads; there are none
        self._builder.download_and_prepare(file_format="array_record")
      info = self._builder.info
      raw = info.features["video"].codec == "raw"
      columns = {split: read_columns(self._builder.as_data_source(split), raw) for split in info.splits}
      facts: dict[str, Any] = {"rejected": [{"id": i, "reason": r} for i, r in self._builder.rejected]}
      if psnr_db := (info.metadata or {}).get("psnr_db"):
        facts["psnr_db"] = psnr_db
      self._write_facts(self.directory, columns, facts | {"made_with": made_with()})

  def begin(self, shards: int = 0) -> None:
    """Makes the folder of the parts, if there is room for them, and says what is new since the last time.

    Args:
      shards: that the work is divided into; 0 = none.

    Raises:
      UserError: the disk is too small. All shards come to lie on it, so there must be room for all that is missing.
    """
    clips = [clip for part in self.parts.missing(self.parts.of(None)) for clip in self.parts.clips[part]]
    _check_space(self._data_dir, self._builder.estimated_bytes(clips))
    sources = self._builder.sources  # looked at before the first clip is made
    with Claims(self.folder / "lock") as claims, claims.held(WHOLE, self._waiting()):
      if self._exists():
        return
      self.parts.folder.mkdir(exist_ok=True)
      self.parts.note_shards(shards)
      if not (self.folder / SOURCES).exists():
        if text := changes(self.folder, self._options, sources):
          self._say(text)
        write_sources(self.folder, self._options, sources)

  def make_parts(self, shard: Shard | None = None) -> list[Shard]:
    """Makes what is missing of a shard (None = of everything), and the dataset once all parts are there.

    Returns:
      The shards that are missing still.
    """
    self.begin(shard.of if shard else 0)
    with Claims(self.folder / "lock") as claims:
      self._finish(self.parts.of(shard), claims)
      if shard and self.parts.missing(self.parts.of(None)) and not self._exists():
        return self.parts.missing_shards(shard.of)
      with claims.held(WHOLE, self._waiting()):
        if not self._exists():
          self._put_together()
    return []

  def _finish(self, wanted: range, claims: Claims) -> None:
    """Makes all parts that nobody else has made or is making; waits for the others, and makes them if they are left."""
    total = self.parts.count(wanted)
    rejected = read_rejected(self.parts, set(self.parts.of(None)) - set(self.parts.missing(self.parts.of(None))))
    waiting = self._waiting()
    while (missing := self.parts.missing(wanted)) and not self._exists():
      self._progress(total - self.parts.count(missing), total)
      work = in_order(lambda item: self._builder.make(item[1]), self._claimed(missing, claims), self._threads)
      with contextlib.closing(work):
        for part, made in itertools.groupby(work, key=lambda made: made[0][0]):
          before = total - self.parts.count(self.parts.missing(wanted))
          write_part(self.parts, part, self._watched(made, rejected, before, total), self._builder)
          claims.release(part)
      if self.parts.missing(wanted) and not self._exists():
        waiting()
        time.sleep(_LOOK_AGAIN_S)

  def _claimed(self, missing: Iterable[int], claims: Claims) -> Iterator[Item]:
    """The clips of the parts that are ours to make; a part is claimed when its first clip is wanted."""
    for part in missing:
      if not claims.take(part):
        continue
      if self.parts.is_done(part) or self._exists():  # in the meantime
        claims.release(part)
        continue
      if claims.respected:
        self.parts.clear(part)
      yield from ((part, clip) for clip in self.parts.clips[part])

  def _watched(
    self,
    made: Iterable[tuple[Item, Encoded | VideoError]],
    rejected: list[tuple[str, str]],
    before: int,
    total: int,
  ) -> Iterator[tuple[Clip, Encoded | VideoError]]:
    """Passes clips on, counts them, and stops when too many are rejected."""
    for number, ((_, clip), encoded) in enumerate(made, before + 1):
      if isinstance(encoded, VideoError):
        rejected.append((clip.id, str(encoded)))
        self._builder.check_rejected(rejected)
      yield clip, encoded
      self._progress(number, total)

  def _put_together(self) -> None:
    whole = self.parts.folder / "whole"
    columns, facts = assemble(self.parts, self._builder, whole)
    self._write_facts(whole, columns, facts)
    whole.rename(self.directory)
    shutil.rmtree(self.parts.folder, ignore_errors=True)

  def _write_facts(self, directory: pathlib.Path, columns: dict[str, Columns], facts: dict[str, Any]) -> None:
    """Labels of each split, then facts.json."""
    for split, found in columns.items():
      write_labels(directory, split, found["label"])
    about = {"name": self._name, "options": plain(self._options)}
    about |= described(self._builder.info.features["label"].names, columns) | facts
    write_text(directory / FACTS, json.dumps(about, indent=2))

  def _exists(self) -> bool:
    return (self.directory / FACTS).exists()

  def _waiting(self) -> Callable[[], None]:
    """What is called while another process has the work: says so, once."""
    told = iter([f"waiting for another process that prepares {self.folder}"])

    def waiting() -> None:
      if text := next(told, None):
        self._say(text)

    return waiting


def _check_space(data_dir: pathlib.Path, need: int) -> None:
  """Raises UserError if the disk cannot hold so many bytes more."""
  free = free_bytes(data_dir)
  if need > free:
    raise UserError(
      f"the stored clips need about {need / 2**30:.1f} GiB, but {data_dir.absolute()} has {free / 2**30:.1f} GiB free: "
      "name another place with --data_dir, or lower config.data.short_side"
    )


def _quiet() -> None:
  """TFDS warns about every configuration that is not one of its catalogue's; ours never are."""
  logging.getLogger("absl").setLevel(logging.ERROR)
