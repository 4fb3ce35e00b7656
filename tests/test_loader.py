"""LOADER: every clip once, the same batches whatever the threads and hosts, and exact continuation."""

import json
import pathlib
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import numpy as np
import pytest

import vu_jax.data.loader
from vu_jax.data.clips import Clip
from vu_jax.data.loader import Loader, eval_batches, load_clip, num_eval_batches, train_batches
from vu_jax.data.protocol import Eval
from vu_jax.data.source import PreparedSource
from vu_jax.data.video import stores
from vu_jax.data.video.decode import decode_frames
from vu_jax.data.video.view import Pixels
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
    numbers = dict.fromkeys(("label", "index", "view"), np.int32)
    assert types == {"video": np.uint8, "mask": np.float32, **numbers}
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
  """Whatever the number of hosts, a global batch is the same, clip by clip; so it is in later epochs.

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
      np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def test_batches_of_one_clip_are_the_same_stream(train: PreparedSource):
  """Ablations on one clip, and long clips on small machines, use them."""
  single = taken(train_batches(train, CLIP, PIXELS, Loader(batch_size=1), seed=0), 8)
  np.testing.assert_array_equal(single["video"], taken(train_batches(train, CLIP, PIXELS, LOADER, seed=0), 2)["video"])


def test_a_batch_that_hosts_cannot_share_is_refused(train: PreparedSource, monkeypatch: pytest.MonkeyPatch):
  """4 clips cannot be divided among 3 hosts."""
  as_host(monkeypatch, 0, 3)
  with pytest.raises(UserError, match=r"config\.loader\.batch_size = 4: must be a multiple of the 3 hosts"):
    train_batches(train, CLIP, PIXELS, LOADER, seed=0)


def test_threads_and_processes_change_nothing(train: PreparedSource):
  """As many threads as cores, one, four, and two processes give the same clips in the same order, crops included."""
  one, *others = (
    taken(train_batches(train, CLIP, PIXELS, Loader(batch_size=4, threads=threads, prefetch=4), seed=0), 9)
    for threads in (1, 0, 4)
  )
  for other in others:
    assert_same(one, other)
  loader = Loader(batch_size=4, threads=2, workers=2)
  batches = train_batches(train, CLIP, PIXELS, loader, seed=0)
  assert_same(one, taken(batches, 9))
  state = batches.get_state()
  ahead = taken(batches, 2)
  batches.close()
  again = train_batches(train, CLIP, PIXELS, loader, seed=0)
  again.set_state(state)
  assert_same(ahead, taken(again, 2))
  again.close()


ORDERS = [
  Loader(batch_size=4, threads=2),
  Loader(batch_size=4, threads=2, order="balanced"),
  Loader(batch_size=4, threads=2, order="classes_by_clips", clips_per_class=2),
  Loader(batch_size=4, threads=2, subset_frac=0.5),
]


@pytest.mark.parametrize("loader", ORDERS, ids=["shuffle", "balanced", "classes_by_clips", "subset"])
def test_training_continues_exactly(loader: Loader, train: PreparedSource):
  """A new iterator given the state after 4 batches goes on with batch 5, over the end of the epoch.

  The state is one integer.
  """
  unbroken = train_batches(train, CLIP, PIXELS, loader, seed=0)
  taken(unbroken, 4)
  state = unbroken.get_state()
  assert state == {"next_index": 4}
  resumed = train_batches(train, CLIP, PIXELS, loader, seed=0)
  taken(resumed, 1)  # being somewhere else already does not matter
  resumed.set_state(state)
  assert_same(taken(unbroken, 5), taken(resumed, 5))


def test_orders_in_batches(train: PreparedSource, monkeypatch: pytest.MonkeyPatch):
  """Two clips each of two labels per batch, also when two hosts deal it out; six rounds of eight labels; a subset.

  The 24 clips are three of each of eight labels.
  """
  pairs = ORDERS[2]
  whole = [np.sort(b["index"]) for b in islice(train_batches(train, CLIP, PIXELS, pairs, seed=0), 8)]
  labels = np.array([train[i]["label"] for i in range(24)])
  for batch in whole:
    assert sorted(np.unique(labels[batch], return_counts=True)[1]) == [2, 2]
    assert len(set(batch)) == 4
  halves = []
  for host in (0, 1):
    as_host(monkeypatch, host, 2)
    halves.append([b["index"] for b in islice(train_batches(train, CLIP, PIXELS, pairs, seed=0), 8)])
  for batch, one, two in zip(whole, *halves, strict=True):
    assert sorted([*one, *two]) == batch.tolist()
  as_host(monkeypatch, 0, 1)
  even = taken(train_batches(train, CLIP, PIXELS, ORDERS[1], seed=0), 12)
  assert np.bincount(even["label"]).tolist() == [6] * 8
  assert np.bincount(even["index"]).tolist() == [2] * 24
  one_each = taken(train_batches(train, CLIP, PIXELS, Loader(batch_size=4, subset_per_class=1), seed=0), 6)
  assert sorted(np.bincount(one_each["index"], minlength=24)) == [0] * 16 + [3] * 8


def test_orders_that_cannot_be_had(train: PreparedSource):
  """Each mistake is one line that names the key."""
  with pytest.raises(UserError, match="clips_per_class = 3: must divide batch_size = 4"):
    Loader(batch_size=4, order="classes_by_clips", clips_per_class=3)
  with pytest.raises(UserError, match=r"subset_per_class = 2 and subset_frac = 0\.5: give one"):
    Loader(subset_per_class=2, subset_frac=0.5)
  with pytest.raises(UserError, match=r'class "\w+" has only 3 training clips'):
    train_batches(train, CLIP, PIXELS, Loader(subset_per_class=4), seed=0)


def test_reversed_and_looped_clips_are_put_together(train: PreparedSource):
  """A reversed clip is the clip backwards; a looped one begins again."""
  whole = decode_frames(train[5]["video"], np.arange(8))
  reverse = Clip(num_frames=8, reverse_frac=1.0)
  found = load_clip(train, reverse, Pixels(crop=32), 5, np.random.default_rng(0))["video"]
  np.testing.assert_array_equal(found, whole[::-1])
  looped = load_clip(train, Clip(num_frames=12, short="loop"), Pixels(crop=32), 5, None)["video"]
  np.testing.assert_array_equal(looped, whole[[*range(8), *range(4)]])


def test_views_of_a_video_follow_each_other(validation: PreparedSource, monkeypatch: pytest.MonkeyPatch):
  """10 videos in 2x3 views are 60 clips: 15 batches of 4; view 5 of a video is its end, at the right edge.

  Two hosts share them: together each (video, view) once.
  """
  views = Eval(clips=2, crops=3)
  found = taken(eval_batches(validation, CLIP, PIXELS, LOADER, views), 15)
  assert num_eval_batches(validation, LOADER, views) == 15
  assert found["index"].tolist() == np.repeat(range(10), 6).tolist()
  assert found["view"].tolist() == list(range(6)) * 10
  assert found["mask"].all()
  np.testing.assert_array_equal(found["video"][5], decode_frames(validation[0]["video"], np.arange(4, 8))[:, 4:28, 8:])
  parts = []
  for host in (0, 1):
    as_host(monkeypatch, host, 2)
    parts += list(eval_batches(validation, CLIP, PIXELS, Loader(batch_size=14, threads=2), views))
  both = taken(iter(parts), len(parts))
  real = both["mask"] > 0
  pairs = list(zip(both["index"][real].tolist(), both["view"][real].tolist(), strict=True))
  assert sorted(pairs) == [(i, v) for i in range(10) for v in range(6)]


class Damaged(Changed):
  """Clips 3, 4 and 9 cannot be read."""

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self.source[index] | ({"video": b"junk"} if index in (3, 4, 9) else {})


ROBUST = Loader(batch_size=4, threads=2, max_bad_frac=0.2)


def test_damaged_clips_are_replaced_by_others_of_their_class(train: PreparedSource, tmp_path: pathlib.Path):
  """Each in its own place by a clip of the same label, everything else as it was; the file says which and why."""
  plain = taken(train_batches(train, CLIP, PIXELS, LOADER, seed=0), 12)
  labels = np.array([train[i]["label"] for i in range(24)])
  file = tmp_path / "quarantine.jsonl"
  found = taken(train_batches(Damaged(train), CLIP, PIXELS, ROBUST, seed=0, labels=labels, quarantine=file), 12)
  bad = np.isin(plain["index"], (3, 4, 9))
  assert bad.sum() == 6
  for key in plain:
    np.testing.assert_array_equal(found[key][~bad], plain[key][~bad])
  assert not np.isin(found["index"], (3, 4, 9)).any()
  np.testing.assert_array_equal(found["label"], plain["label"])
  rows = [json.loads(line) for line in file.read_text().splitlines()]
  assert sorted(row["index"] for row in rows) == [3, 4, 9]
  assert all(train[row["index"]]["id"] in row["reason"] for row in rows)


def test_damaged_clips_do_not_change_what_a_resumed_run_sees(train: PreparedSource, tmp_path: pathlib.Path):
  """Killed after 5 batches: the next start knows the file and makes the batches that the unbroken run makes.

  It does not try the clips in the file again; a line that the kill tore is passed over.
  """
  whole = train_batches(Damaged(train), CLIP, PIXELS, ROBUST, seed=0, quarantine=tmp_path / "a")
  file = tmp_path / "b"
  broken = train_batches(Damaged(train), CLIP, PIXELS, ROBUST, seed=0, quarantine=file)
  assert_same(taken(whole, 5), taken(broken, 5))
  state = broken.get_state()
  taken(broken, 2)
  with file.open("a") as lines:
    lines.write('{"index": 7, "rea')
  resumed = train_batches(Damaged(train), CLIP, PIXELS, ROBUST, seed=0, quarantine=file)
  resumed.set_state(state)
  assert_same(taken(whole, 9), taken(resumed, 9))
  mended = train_batches(train, CLIP, PIXELS, ROBUST, seed=0, quarantine=tmp_path / "a")
  assert not np.isin(taken(mended, 6)["index"], (3, 4, 9)).any()


def test_too_many_damaged_clips_end_the_run(train: PreparedSource, tmp_path: pathlib.Path):
  """3 of 24 clips are more than a tenth; without a share the first one ends it, as in evaluation."""
  few = Loader(batch_size=4, threads=2, max_bad_frac=0.1)
  with pytest.raises(UserError, match=r"^3 of 24 training clips cannot be read, more than .*max_bad_frac = 0\.1"):
    taken(train_batches(Damaged(train), CLIP, PIXELS, few, seed=0, quarantine=tmp_path / "q"), 12)
  with pytest.raises(UserError, match=r"^train/\d+_\w+: "):
    taken(train_batches(Damaged(train), CLIP, PIXELS, LOADER, seed=0), 12)
  with pytest.raises(UserError, match=r"^train/\d+_\w+: "):
    list(eval_batches(Damaged(train), CLIP, PIXELS, ROBUST))


def test_a_decoder_that_hangs_is_cut_off(train: PreparedSource, tmp_path: pathlib.Path, monkeypatch):
  """Clip 9 would take a minute; after a fifth of a second another one stands in its place."""
  slow = bytes(train[9]["video"])

  def decode(video: Any, frames: np.ndarray, view: Any) -> np.ndarray:
    if bytes(video) == slow:
      time.sleep(60)
    return stores.decode_clip(video, frames, view)

  monkeypatch.setattr(vu_jax.data.loader, "decode_clip", decode)
  loader = Loader(batch_size=4, threads=2, max_bad_frac=0.2, timeout_s=0.2)
  start = time.monotonic()
  found = taken(train_batches(train, CLIP, PIXELS, loader, seed=0, quarantine=tmp_path / "q"), 12)
  assert time.monotonic() - start < 20
  assert 9 not in found["index"]
  assert "not decoded within 0.2 s (config.loader.timeout_s)" in (tmp_path / "q").read_text()


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


def test_shuffled_clips_show_the_same_frames_in_orders_of_their_own(validation: PreparedSource):
  """Evaluation: of each clip the frames of the clip in time, in an order that differs from clip to clip and stays."""
  shuffled, orders = Clip(num_frames=4, order="shuffled"), []
  for index in range(len(validation)):
    in_time = load_clip(validation, CLIP, PIXELS, index, None)["video"]
    found = load_clip(validation, shuffled, PIXELS, index, None)["video"]
    np.testing.assert_array_equal(found, load_clip(validation, shuffled, PIXELS, index, None)["video"])
    orders.append(tuple(int(np.flatnonzero((in_time == frame).all((1, 2, 3)))[0]) for frame in found))
  assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
  assert len({*orders}) > 5  # of ten clips


def test_a_split_that_does_not_exist_is_refused(tiny_motion: pathlib.Path):
  """The message says which there are."""
  with pytest.raises(UserError, match=r'no split "val" \(it has .*validation'):
    PreparedSource(tiny_motion, "val")
