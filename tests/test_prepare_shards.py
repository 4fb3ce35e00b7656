"""PREPARE in parts: killed and continued, in shards, side by side; the records are those of an unbroken run."""

import errno
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Ended, call
from rich.console import Console

from experiments.prepare import show_rejected
from experiments.prepare_jobs import prepare_by_jobs
from vu_jax.data import part_files
from vu_jax.data.builders.motion import Options as Motion
from vu_jax.data.builders.video_folder import Builder, Options, fingerprint
from vu_jax.data.changes import changes, write_sources
from vu_jax.data.features import ClipsConfig
from vu_jax.data.listing.folders import Clip
from vu_jax.data.parts import Parts, Shard, divide, parse_shard
from vu_jax.data.prepare import prepare, prepare_shard, read_facts, read_labels, shards_text
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.transcode import encode_video
from vu_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
# A process of its own: says when the first clip is made, and takes its time for each.
SLOW = """
import pathlib, sys, time
from vu_jax.data.builders import video_folder
from vu_jax.data.prepare import prepare
fast = video_folder.Builder.make
def slow(builder, clip):
  print(clip.id, flush=True)
  time.sleep(float(sys.argv[3]))
  return fast(builder, clip)
video_folder.Builder.make = slow
prepare("video_folder", video_folder.Options(root=sys.argv[1]), pathlib.Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Options:
  """Two classes of 12 videos of 3 frames, 24x16 px, each of a gray of its own; no file is older than another."""
  root = tmp_path_factory.mktemp("videos")
  for number in range(24):
    frames = np.full((3, 16, 24, 3), 10 * number, np.uint8)
    file = root / "ab"[number % 2] / f"{number}.mp4"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(encode_video(frames, 10.0).video)
  return Options(root=str(root))


@pytest.fixture(scope="module")
def unbroken(videos: Options, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return prepare("video_folder", videos, tmp_path_factory.mktemp("unbroken"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
  """Ids of the clips that are encoded from here on in this process."""
  ids: list[str] = []
  make = Builder.make

  def noted(builder: Builder, clip: Clip):
    ids.append(clip.id)
    return make(builder, clip)

  monkeypatch.setattr(Builder, "make", noted)
  return ids


def start(videos: Options, data_dir: pathlib.Path, seconds_per_clip: float) -> subprocess.Popen:
  command = [sys.executable, "-c", SLOW, videos.root, str(data_dir), str(seconds_per_clip)]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def records(directory: pathlib.Path) -> dict[str, list[dict]]:
  """All records of each split, in order."""
  splits = read_facts(directory)["splits"]
  return {
    split: [source[i] for i in range(len(source))] for split in splits for source in [PreparedSource(directory, split)]
  }


def same(directory: pathlib.Path, other: pathlib.Path) -> None:
  """The same records in the same order, the same labels, the same facts."""
  assert directory.relative_to(directory.parents[2]) == other.relative_to(other.parents[2])
  first, second = records(directory), records(other)
  assert list(first) == list(second)
  for split, found in first.items():
    assert len(found) == len(second[split])
    for one, two in zip(found, second[split], strict=True):
      assert one.keys() == two.keys()
      assert all(np.array_equal(one[key], two[key]) for key in one), one["id"]
    np.testing.assert_array_equal(read_labels(directory, split), [int(one["label"]) for one in found])
  assert read_facts(directory) == read_facts(other)


def clips(**counts: int) -> list[Clip]:
  return [Clip(f"{split}{n}", pathlib.Path(), "x", split) for split, count in counts.items() for n in range(count)]


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(0, 60), st.integers(0, 60), st.integers(1, 40))
def test_shards_are_even_in_all_splits(train: int, validation: int, test: int, of: int):
  """Every clip is in one part and every part in one shard; parts are even, and hold the same share of each split."""
  listed = clips(train=train, validation=validation, test=test)
  parts = divide(listed)
  assert Counter(clip.id for part in parts for clip in part) == Counter(clip.id for clip in listed)
  assert {len(part) for part in parts} <= {len(listed) // len(parts), -(-len(listed) // len(parts))}
  for split, count in (("train", train), ("validation", validation), ("test", test)):
    each = [sum(clip.split == split for clip in part) for part in parts]
    assert all(abs(n - count / len(parts)) < 2 for n in each)
  found = Parts(pathlib.Path("none"), listed)
  shards = [found.of(Shard(number, of)) for number in range(1, of + 1)]
  assert [part for shard in shards for part in shard] == list(range(len(parts)))
  assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize(("count", "parts"), [(1, 1), (31, 31), (32, 32), (2048, 32), (2049, 33), (16400, 256)])
def test_numbers_of_parts(count: int, parts: int):
  """A part has a clip at least, 64 in sets of middle size, and there are never more than 256."""
  assert len(divide(clips(train=count))) == parts


@pytest.mark.parametrize("text", ["5/4", "0/3", "x", "", "1", "1/0", "-1/3", "1/3/4", "1.0/3"])
def test_shards_that_are_none(text: str):
  with pytest.raises(UserError, match=r"^--shard=.*: must be i/n with i from 1 to n, such as --shard=2/3$"):
    parse_shard(text)


def test_lists_of_shards():
  assert parse_shard("2/3") == Shard(2, 3)
  assert shards_text([Shard(2, 3)]) == "2/3 is"
  assert shards_text([Shard(n, 3) for n in (1, 2, 3)]) == "1/3, 2/3 and 3/3 are"
  assert shards_text([Shard(n, 99) for n in range(1, 100)]).endswith("7/99, 8/99, ... (99 in all) are")


def test_records_are_those_that_tfds_writes(videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path):
  """Content and order equal those of `download_and_prepare` on the same builder, in one piece."""
  tfds.disable_progress_bar()
  config = ClipsConfig(name=fingerprint(videos), options=videos)
  builder = Builder(config=config, data_dir=str(tmp_path))
  builder.download_and_prepare(file_format="array_record")
  ours = tfds.builder_from_directory(unbroken)
  for split, about in builder.info.splits.items():
    assert len(ours.info.splits[split].shard_lengths) > len(about.shard_lengths) == 1
    assert ours.info.splits[split].num_bytes == about.num_bytes
    for one, two in zip(ours.as_data_source(split), builder.as_data_source(split), strict=True):
      assert all(np.array_equal(one[key], two[key]) for key in one)
  stat = (pathlib.Path(videos.root) / "a" / "0.mp4").stat()
  (record,) = [r for found in records(unbroken).values() for r in found if r["id"] == "a/0.mp4"]
  assert record["source"].tolist() == [stat.st_size, stat.st_mtime_ns]


def test_a_killed_preparation_goes_on(videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path, made: list[str]):
  """SIGKILL in the middle: what is finished stays as it is, the rest is made, and the result is that of no kill."""
  process = start(videos, tmp_path, 0.03)
  parts = tmp_path / unbroken.parents[1].name / unbroken.parent.name / "parts"
  while len(finished := [folder for folder in parts.glob("*-of-*") if not folder.suffix]) < 3:
    assert process.poll() is None
    time.sleep(0.002)
  process.kill()
  process.wait()
  files = {file.stat().st_ino: file.read_bytes() for folder in finished for file in folder.glob("*.array_record")}
  kept = [key for folder in finished for about in json.loads((folder / "about.json").read_text())["splits"].values()
          for key in about["columns"]["id"]]  # fmt: skip
  assert 3 <= len(kept) < 24
  assert not parts.with_name(unbroken.name).exists()
  calls: list[tuple[int, int]] = []
  directory = prepare("video_folder", videos, tmp_path, lambda *counts: calls.append(counts), take_over=False)
  assert Counter(made) + Counter(kept) == Counter({f"{'ab'[n % 2]}/{n}.mp4": 1 for n in range(24)})
  assert (calls[0], calls[-1]) == ((len(kept), 24), (24, 24))
  now = {file.stat().st_ino: file.read_bytes() for file in directory.glob("*.array_record*")}
  assert now.items() >= files.items()  # the finished files themselves, under other names
  same(directory, unbroken)
  assert {path.name for path in directory.parent.iterdir()} == {directory.name, "lock", "sources.json"}


def test_two_at_work_share_it_and_a_dead_one_holds_nothing(
  videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path, made: list[str]
):
  """What another process is making is left to it; when it is killed, its work is taken over."""
  process = start(videos, tmp_path, 600.0)
  assert process.stdout is not None
  theirs = {process.stdout.readline().strip()}
  said: list[str] = []

  def kill(text: str) -> None:
    said.append(text)
    assert len(made) < 24
    assert not theirs & set(made)
    process.kill()
    process.wait()

  try:
    directory = prepare("video_folder", videos, tmp_path, say=kill)
  finally:
    process.kill()
  assert len(said) == 1
  assert said[0].startswith("waiting for another process that prepares ")
  assert len(made) == 24
  assert theirs < set(made)
  same(directory, unbroken)


def test_a_disk_without_locks(
  videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path, made: list[str], monkeypatch: pytest.MonkeyPatch
):
  """Work may be done twice there, but nothing is spoilt: here another preparation is faster with all of it."""
  make = Builder.make

  def overtaken(builder: Builder, clip: Clip):
    if len(made) == 2:
      monkeypatch.setattr(Builder, "make", make)
      prepare("video_folder", videos, tmp_path)
    return make(builder, clip)

  def refuse(*arguments: object) -> None:
    raise OSError(errno.ENOLCK, "no locks")

  monkeypatch.setattr(fcntl, "lockf", refuse)
  monkeypatch.setattr(Builder, "make", overtaken)
  directory = prepare("video_folder", videos, tmp_path)
  assert 24 < len(made) < 48
  same(directory, unbroken)
  assert {path.name for path in directory.parent.iterdir()} == {directory.name, "lock", "sources.json"}


def test_shards_make_the_same_dataset(videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path, made: list[str]):
  """In any order, twice, or under way to another number; until all are there, readers are told which are missing."""
  one, two, three = (Shard(number, 3) for number in (1, 2, 3))
  calls: list[tuple[int, int]] = []
  assert prepare_shard("video_folder", videos, tmp_path, three, lambda *counts: calls.append(counts)) == [one, two]
  assert calls[-1] == (len(made), len(made)) == (8, 8)
  assert prepare_shard("video_folder", videos, tmp_path, three) == [one, two]
  assert len(made) == 8
  with pytest.raises(UserError, match=r"in 3 shards, and 1/3 and 2/3 are missing: .* --shard=1/3, or .* without --sh"):
    prepare("video_folder", videos, tmp_path, take_over=False)
  assert prepare_shard("video_folder", videos, tmp_path, Shard(100, 100)) == [
    shard for shard in (Shard(n, 100) for n in range(1, 101)) if 24 * (shard.number - 1) // 100 < 16
    and 24 * shard.number // 100 > 24 * (shard.number - 1) // 100
  ]  # fmt: skip
  assert prepare_shard("video_folder", videos, tmp_path, one) == [two]
  assert prepare_shard("video_folder", videos, tmp_path, two, threads=1) == []
  assert len(made) == 24
  directory = prepare("video_folder", videos, tmp_path, take_over=False)
  same(directory, unbroken)
  assert prepare_shard("video_folder", videos, tmp_path, two) == []
  assert len(made) == 24


def test_prepare_does_the_rest_of_the_shards(
  videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path, made: list
):
  """Without a shard, what is missing is made, finished shards are not."""
  prepare_shard("video_folder", videos, tmp_path, Shard(2, 2))
  before = len(made)
  same(prepare("video_folder", videos, tmp_path), unbroken)
  assert (before, len(made)) == (12, 24)


def test_what_is_prepared_in_one_go_has_no_shards(tmp_path: pathlib.Path):
  with pytest.raises(UserError, match=r'^config\.data\.name = "motion": such a dataset is prepared in one go; leave'):
    prepare_shard("motion", Motion(num_train=2, num_validation=0, num_test=1), tmp_path, Shard(1, 2))
  assert not list(tmp_path.iterdir())


@pytest.fixture
def copy(videos: Options, tmp_path: pathlib.Path) -> Options:
  """The videos, to change them."""
  shutil.copytree(videos.root, tmp_path / "copy")
  return Options(root=str(tmp_path / "copy"))


def test_changed_sources_are_named(copy: Options, tmp_path: pathlib.Path):
  """What is new since the last preparation is said in one line; the old dataset stays as it is."""
  said: list[str] = []
  old = prepare("video_folder", copy, tmp_path / "d", say=said.append)
  assert prepare("video_folder", copy, tmp_path / "d", say=said.append) == old
  assert said == []
  changed, gone = pathlib.Path(copy.root) / "b" / "7.mp4", pathlib.Path(copy.root) / "a" / "0.mp4"
  was = changed.stat().st_size
  shutil.copy(pathlib.Path(copy.root) / "b" / "9.mp4", changed)
  with changed.open("ab") as file:
    file.write(bytes(1000))
  gone.rename(gone.with_name("zero.mp4"))
  new = prepare("video_folder", copy, tmp_path / "d", say=said.append)
  (text,) = said
  size = changed.stat().st_size
  assert text.startswith(
    f"since {old.parent} was prepared: 1 of 24 sources changed (first: b/7.mp4: {size:,} bytes instead of {was:,}, of "
  )
  assert "), 1 new, 1 no longer listed; all clips are prepared anew beside it: delete that folder when" in text
  assert new != old
  assert read_facts(old)["splits"]["train"]["clips"] == read_facts(new)["splits"]["train"]["clips"]


def test_only_the_same_options_are_compared(tmp_path: pathlib.Path):
  """By hand: one file has another date; other options, no change, and no older dataset say nothing."""
  options = Options(root="v")
  assert changes(tmp_path / "new", options, {"x": (5, 10**18)}) == ""
  for name, of, time_ns in (("old", options, 10**18), ("other", Options(root="v", crf=20), 0)):
    (tmp_path / name).mkdir()
    write_sources(tmp_path / name, of, {"x": (5, time_ns), "y": (6, 0)})
  same_files = {"x": (5, 10**18), "y": (6, 0)}
  assert changes(tmp_path / "new", options, same_files) == ""
  assert changes(tmp_path / "old", options, {"x": (1, 1)}) == ""
  text = changes(tmp_path / "new", options, same_files | {"x": (5, 2 * 10**18)})
  assert "1 of 2 sources changed (first: x: 5 bytes as before, of 2033-05-18 " in text
  assert "first: y: gone)" in changes(tmp_path / "new", options, same_files | {"y": (-1, -1)})


def test_a_source_that_changes_meanwhile_stops_it(
  copy: Options, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
  """A dataset never mixes files of before and after; the next start sees the new ones."""
  changed, make = pathlib.Path(copy.root) / "a" / "4.mp4", Builder.make

  def touched(builder: Builder, clip: Clip):
    if clip.id == "a/4.mp4":
      os.utime(changed, (1, 1))
    return make(builder, clip)

  monkeypatch.setattr(Builder, "make", touched)
  with pytest.raises(UserError, match=r"a/4\.mp4 has changed while the dataset was being prepared; give the same com"):
    prepare("video_folder", copy, tmp_path / "d")
  said: list[str] = []
  monkeypatch.setattr(Builder, "make", make)
  assert read_facts(prepare("video_folder", copy, tmp_path / "d", say=said.append))["rejected"] == []
  assert "1 of 24 sources changed (first: a/4.mp4: " in said[0]


def test_a_higher_limit_continues(copy: Options, tmp_path: pathlib.Path, made: list[str]):
  """Too many rejected clips stop it; with a higher limit the finished parts are kept; a lower one refuses the set."""
  for name in ("0", "2", "4"):
    (pathlib.Path(copy.root) / "a" / f"{name}.mp4").write_text("no video")
  strict, tolerant = (Options(root=copy.root, max_rejected_frac=share) for share in (0.1, 0.2))
  with pytest.raises(UserError, match=r"at least 3 of 24 clips in .* \(12%\) cannot be read, but max_rejected_frac"):
    prepare("video_folder", strict, tmp_path / "d")
  parts = [folder for folder in (tmp_path / "d").rglob("parts/*-of-*") if not folder.suffix]
  assert parts
  made.clear()
  facts = read_facts(prepare("video_folder", tolerant, tmp_path / "d"))
  assert len(made) < 24
  assert [item["id"] for item in facts["rejected"]] == ["a/0.mp4", "a/2.mp4", "a/4.mp4"]  # as they are listed
  assert sum(about["clips"] for about in facts["splits"].values()) == 21
  with pytest.raises(UserError, match="at least 3 of 24 clips"):
    prepare("video_folder", strict, tmp_path / "d")


def test_what_is_missing_must_find_room(videos: Options, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """24 clips of 3456 bytes; a shard needs room for all of them, later ones for what is left."""
  raw = Options(root=videos.root, store="raw")
  free = SimpleNamespace(free=24 * 3456 - 1)
  monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
  with pytest.raises(UserError, match=r"need about 0\.0 GiB"):
    prepare_shard("video_folder", raw, tmp_path / "d", Shard(1, 2))
  assert not (tmp_path / "d").exists()
  free.free += 1
  prepare_shard("video_folder", raw, tmp_path / "d", Shard(1, 2))
  free.free = 12 * 3456 - 1
  with pytest.raises(UserError, match=r"need about 0\.0 GiB"):
    prepare("video_folder", raw, tmp_path / "d")
  free.free += 1
  directory = prepare("video_folder", raw, tmp_path / "d")
  grays = {r["id"]: int(r["video"][2, 8, 8, 0]) for found in records(directory).values() for r in found}
  assert len(grays) == 24
  assert all(abs(gray - 10 * int(key[2:-4])) <= 2 for key, gray in grays.items())


def test_a_full_disk_is_one_line(videos: Options, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """Other processes may have taken the room; what ArrayRecord says then, in many words, becomes one line."""

  class Full:
    def __init__(self, *options: str):
      raise RuntimeError("write() failed: No space left on device; writing x; at byte 1048576\nFailed to close")

  with monkeypatch.context() as patch:
    patch.setattr(part_files, "ArrayRecordWriter", Full)
    with pytest.raises(
      UserError, match=r"parts: the disk is full; what is finished is kept: make room and give the sa"
    ):
      prepare("video_folder", videos, tmp_path)
  assert not list(tmp_path.rglob("*-of-*"))
  prepare("video_folder", videos, tmp_path)


def test_jobs_prepare_the_shards(videos: Options, unbroken: pathlib.Path, tmp_path: pathlib.Path):
  """Two real processes, one shard each, submitted and waited for; nothing of them is left."""
  pytest.importorskip("submitit", reason="needs the extra [sweep]")
  said: list[str] = []
  calls: list[tuple[int, int]] = []
  arguments = ("video_folder", videos, tmp_path, 2, "local", {}, lambda *counts: calls.append(counts), said.append)
  assert prepare_by_jobs(*arguments)
  assert said[0].startswith("submitted 2 jobs (")
  assert calls[0] == (0, 24)
  same(prepare("video_folder", videos, tmp_path, take_over=False), unbroken)
  assert {path.name for path in (tmp_path / unbroken.parents[1].name / unbroken.parent.name).iterdir()} == {
    unbroken.name, "lock", "sources.json",
  }  # fmt: skip
  assert prepare_by_jobs(*arguments)
  assert len(said) == 1


BAD = {
  "--shard=5/4": "--shard=5/4: must be i/n",
  "--shard=x": "--shard=x: must be i/n",
  "--jobs=0": "--jobs=0: must be at least 1",
  "--jobs=two": "invalid int value: 'two'",
  "--jobs=2 --shard=1/2": "not allowed with argument",
  "--cluster=slurm": "--cluster=slurm says where jobs run",
  "--jobs=2 --cluster=moon": "invalid choice: 'moon'",
  "--jobs=2 --slurm=time=5": "is for jobs on Slurm",
  "--shard=1/2 --preview": "--preview needs the whole dataset",
  "--jobs=2": "--jobs needs submitit: pip install -e '.[sweep]'",
}


@pytest.mark.parametrize("typed", BAD)
def test_bad_shards_and_jobs_are_one_line(
  typed: str, videos: Options, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
  """Exit code 2 and one line, before anything is written; here submitit is not installed."""
  monkeypatch.setitem(sys.modules, "submitit", None)
  common = ["--config=configs/my_videos.py", f"--config.data.root={videos.root}", f"--data_dir={tmp_path / 'd'}"]
  ended: Ended = call("prepare", *common, *typed.split(), capsys=capsys, monkeypatch=monkeypatch)
  (line,) = ended.err.strip().splitlines()
  assert (ended.code, line[:7]) == (2, "error: ")
  assert BAD[typed] in line
  assert not (tmp_path / "d").exists()


def test_many_rejected_files_are_counted_by_reason(capsys: pytest.CaptureFixture):
  """Up to 20 are named; of more, the kinds are counted, where a number makes no other kind."""
  few = [{"id": f"{n}.mp4", "reason": "empty: it has no bytes"} for n in range(20)]
  screen = Console(width=200)
  show_rejected(few, screen)
  assert capsys.readouterr().out.splitlines()[19] == "rejected 19.mp4: empty: it has no bytes"
  show_rejected([*few, *({"id": f"d{n}", "reason": f"damaged at byte {n}"} for n in range(30))], screen)
  assert capsys.readouterr().out.splitlines() == [
    "rejected 50 files, all listed in facts.json:",
    "      30  damaged at byte 0  (first: d0)",
    "      20  empty: it has no bytes  (first: 0.mp4)",
  ]
