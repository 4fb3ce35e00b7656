"""LOADER: every clip once, the same batches whatever the threads and hosts, and exact continuation."""

import pathlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import numpy as np
import pytest

from vu_jax.data.augment import Pixels
from vu_jax.data.clips import Clip
from vu_jax.data.decode import decode_frames
from vu_jax.data.loader import Loader, eval_batches, load_clip, num_eval_batches, train_batches
from vu_jax.data.source import PreparedSource
from vu_jax.errors import UserError

CLIP, PIXELS, LOADER = Clip(num_frames=4), Pixels(crop=24), Loader(batch_size=4, threads=2, prefetch=2)


class Changed:
  """A source whose clip 3 has something else stored."""

  def __init__(self, source: PreparedSource, **stored: Any):
    self.source, self.stored = source, stored
    self.label_names = source.label_names

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self.source[index] | (self.stored if index == 3 else {})


@pytest.fixture(scope="module")
def train(tiny_motion: pathlib.Path) -> PreparedSource:
  return PreparedSource(tiny_motion, "train")


@pytest.fixture(scope="module")
def validation(tiny_motion: pathlib.Path) -> PreparedSource:
  return PreparedSource(tiny_motion, "validation")


def as_host(monkeypatch: pytest.MonkeyPatch, host: int, hosts: int) -> None:
  monkeypatch.setattr(jax, "process_index", lambda: host)
  monkeypatch.setattr(jax, "process_count", lambda: hosts)


def taken(batches: Iterator[Any], count: int) -> dict[str, np.ndarray]:
  """The next batches as one, key by key."""
  found = list(islice(batches, count))
  return {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_one_clip_by_hand(validation: PreparedSource):
  """Evaluation takes frames 2 to 5 of 8 and the centre 24x24 of 32x32 px; label and index come along."""
  clip = load_clip(validation, CLIP, PIXELS, 5, None)
  whole = decode_frames(validation[5]["video"], np.array([2, 3, 4, 5]))
  np.testing.assert_array_equal(clip["video"], whole[:, 4:28, 4:28])
  assert (clip["label"], clip["index"], clip["mask"]) == (validation[5]["label"], 5, 1)


def test_evaluation_gives_every_clip_once_and_pads_the_last_batch(validation: PreparedSource):
  """10 clips in batches of 4: three batches, in order, the last two places of the last one masked."""
  batches = list(eval_batches(validation, CLIP, PIXELS, LOADER))
  assert len(batches) == num_eval_batches(validation, LOADER) == 3
  for batch in batches:
    assert batch["video"].shape == (4, 4, 24, 24, 3)
    types = {key: value.dtype for key, value in batch.items()}
    assert types == {"video": np.uint8, "label": np.int32, "index": np.int32, "mask": np.float32}
  found = taken(iter(batches), 3)
  assert found["mask"].tolist() == [1] * 10 + [0] * 2
  assert found["index"][:10].tolist() == list(range(10))
  assert found["label"].tolist() == [validation[i]["label"] for i in range(10)] + [0] * 2
  assert not found["video"][10:].any()


def test_evaluation_is_divided_among_hosts(validation: PreparedSource, monkeypatch: pytest.MonkeyPatch):
  """Two hosts get as many batches of half the size; together each clip once, none twice."""
  parts = []
  for host in (0, 1):
    as_host(monkeypatch, host, 2)
    parts.append(list(eval_batches(validation, CLIP, PIXELS, LOADER)))
  assert [len(part) for part in parts] == [3, 3]
  found = taken(iter(parts[0] + parts[1]), 6)
  assert len(found["mask"]) == 12
  assert sorted(found["index"][found["mask"] > 0]) == list(range(10))


def test_training_sees_each_clip_once_per_epoch_in_a_new_order(train: PreparedSource):
  """Two epochs of 6 batches hold all 24 clips each, in different orders, at different places in video and frame."""
  batches = train_batches(train, CLIP, PIXELS, LOADER, seed=0)
  first, second = taken(batches, 6), taken(batches, 6)
  assert sorted(first["index"]) == sorted(second["index"]) == list(range(24))
  assert first["index"].tolist() != second["index"].tolist() != list(range(24))
  clip_of = dict(zip(second["index"], second["video"], strict=True))
  assert sum((clip_of[i] == clip).all() for i, clip in zip(first["index"], first["video"], strict=True)) < 4
  other = taken(train_batches(train, CLIP, PIXELS, LOADER, seed=1), 6)
  assert other["index"].tolist() != first["index"].tolist()


def test_hosts_divide_the_stream_of_one_host(train: PreparedSource, monkeypatch: pytest.MonkeyPatch):
  """Whatever the number of hosts, a global batch holds the same clips, cut out alike; so it does in later epochs.

  Batches of 10 do not divide 24 clips, so two hosts go through epochs of uneven shares.
  """
  loader = Loader(batch_size=10, threads=2)
  whole = train_batches(train, CLIP, PIXELS, loader, seed=0)
  parts = []
  for host in (0, 1):
    as_host(monkeypatch, host, 2)
    parts.append(train_batches(train, CLIP, PIXELS, loader, seed=0))
  for _ in range(6):
    one, two = taken(whole, 1), taken(iter([next(parts[0]), next(parts[1])]), 2)
    assert len(one["index"]) == len(two["index"]) == 10
    for key in one:
      interleaved = two[key].reshape(2, 5, *two[key].shape[1:]).swapaxes(0, 1).reshape(two[key].shape)
      np.testing.assert_array_equal(one[key], interleaved, err_msg=key)


def test_a_batch_that_hosts_cannot_share_is_refused(train: PreparedSource, monkeypatch: pytest.MonkeyPatch):
  """4 clips cannot be divided among 3 hosts."""
  as_host(monkeypatch, 0, 3)
  with pytest.raises(UserError, match=r"config\.loader\.batch_size = 4: must be a multiple of the 3 hosts"):
    train_batches(train, CLIP, PIXELS, LOADER, seed=0)


def test_threads_change_nothing(train: PreparedSource):
  """One thread and four give the same clips in the same order, random crops included."""
  one, four = (
    taken(train_batches(train, CLIP, PIXELS, Loader(batch_size=4, threads=threads, prefetch=4), seed=0), 9)
    for threads in (1, 4)
  )
  assert_same(one, four)


def test_training_continues_exactly(train: PreparedSource):
  """A new iterator given the state after 4 batches goes on with batch 5, over the end of the epoch."""
  unbroken = train_batches(train, CLIP, PIXELS, LOADER, seed=0)
  taken(unbroken, 4)
  state = unbroken.get_state()
  resumed = train_batches(train, CLIP, PIXELS, LOADER, seed=0)
  taken(resumed, 1)  # being somewhere else already does not matter
  resumed.set_state(state)
  assert_same(taken(unbroken, 5), taken(resumed, 5))


def test_a_clip_that_cannot_be_decoded_is_named(validation: PreparedSource):
  """Junk in the store, or a video that is shorter than it says, ends the pass with the clip's id."""
  name = validation[3]["id"]
  with pytest.raises(UserError, match=f"^{name}: ") as caught:
    list(eval_batches(Changed(validation, video=b"junk"), CLIP, PIXELS, LOADER))
  assert "\n" not in str(caught.value)
  with pytest.raises(UserError, match=rf"^{name}: frame 51 .* there are 8 frames"):
    load_clip(Changed(validation, num_frames=100), CLIP, PIXELS, 3, None)
  with pytest.raises(UserError, match=f"^{name}: a clip of 4 frames spans 4 frames, but the video has 2"):
    load_clip(Changed(validation, num_frames=2), CLIP, PIXELS, 3, None)


def test_a_split_that_does_not_exist_is_refused(tiny_motion: pathlib.Path):
  """The message says which there are."""
  with pytest.raises(UserError, match=r'no split "val" \(it has .*validation'):
    PreparedSource(tiny_motion, "val")
