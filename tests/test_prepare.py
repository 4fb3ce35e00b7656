"""PREPARE: what is said about a dataset is true, it is built once, and clips that it cannot give are refused."""

import json
import pathlib
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from vu_jax.data.builders.motion import Options
from vu_jax.data.builders.video_folder import Builder as FolderBuilder
from vu_jax.data.builders.video_folder import Options as Folder
from vu_jax.data.clips import Clip
from vu_jax.data.describe import FACTS, described, read_columns
from vu_jax.data.features import ClipsConfig
from vu_jax.data.prepare import check_split, check_stored, default_data_dir, prepare, read_facts
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.stores import Store, decode_clip
from vu_jax.data.video.transcode import encode_video
from vu_jax.data.video.view import Pixels, whole
from vu_jax.errors import UserError

SMALLEST = Options(num_train=2, num_validation=0, num_test=1, size_px=16, num_frames=3, lifetime_f=2, fps=6.0)


def test_facts_by_hand(tiny_motion: pathlib.Path):
  """10 clips are two of the first two motions and one of the others; 8 frames at 12 Hz are 2/3 s."""
  facts = read_facts(tiny_motion)
  assert (facts["name"], facts["rejected"]) == ("motion", [])
  assert (facts["options"]["num_train"], facts["options"]["seed"]) == (24, 0)
  assert {split: about["clips"] for split, about in facts["splits"].items()} == {
    "train": 24, "validation": 10, "test": 18,
  }  # fmt: skip
  about = facts["splits"]["validation"]
  assert list(about["classes"]) == facts["labels"]
  assert list(about["classes"].values()) == [2, 2, 1, 1, 1, 1, 1, 1]
  assert about["frames"] == {"min": 8, "median": 8, "max": 8}
  assert (about["seconds"], about["fps"], about["sizes_px"]) == (6.67, [12.0], [["32x32", 10]])
  source = PreparedSource(tiny_motion, "validation")
  assert about["bytes"] == sum(len(source[i]["video"]) for i in range(10))
  assert {k: about["shortest"][k] for k in ("num_frames", "height", "width", "fps")} == {
    "num_frames": 8, "height": 32, "width": 32, "fps": 12.0,
  }  # fmt: skip


def test_a_description_names_the_extremes():
  """Of three clips, the second is the shortest and the third the smallest; the median length is 5."""
  facts = [(0, 5, 10.0, 20, 30), (1, 3, 10.0, 40, 50), (0, 9, 12.5, 60, 10)]
  keys = ("label", "num_frames", "fps", "height", "width")
  rows = [dict(zip(keys, row, strict=True)) | {"id": b"clip%d" % i, "video": bytes(7)} for i, row in enumerate(facts)]
  found = described(["a", "b"], {"train": read_columns(rows)})
  assert found["labels"] == ["a", "b"]
  about = found["splits"]["train"]
  assert about["shortest"] == {"id": "clip1", "num_frames": 3, "fps": 10.0, "height": 40, "width": 50}
  assert about["smallest"]["id"] == "clip2"
  assert about["frames"] == {"min": 3, "median": 5, "max": 9}
  assert (about["clips"], about["classes"], about["bytes"]) == (3, {"a": 2, "b": 1}, 21)
  assert (about["seconds"], about["fps"]) == (0.5 + 0.3 + 0.72, [10.0, 12.5])
  assert dict(about["sizes_px"]) == {"30x20": 1, "50x40": 1, "10x60": 1}


def test_a_dataset_is_built_once(tmp_path: pathlib.Path):
  """The second call writes nothing and draws nothing; other options make another folder beside the first."""
  calls: list[tuple[int, int]] = []
  folder = prepare("motion", SMALLEST, tmp_path, lambda *counts: calls.append(counts))
  assert calls == [(1, 3), (2, 3), (3, 3)]
  assert list(read_facts(folder)["splits"]) == ["train", "test"]  # an empty split is no split
  before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
  assert prepare("motion", SMALLEST, tmp_path, lambda *counts: calls.append(counts)) == folder
  assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
  assert len(calls) == 3
  assert not any(file.suffix == ".tmp" for file in before)


def test_a_build_that_ended_before_its_facts_is_completed(tmp_path: pathlib.Path):
  """Facts are written last; without them the call finishes the work, and says the same."""
  folder = prepare("motion", SMALLEST, tmp_path)
  facts = (folder / FACTS).read_text()
  (folder / FACTS).unlink()
  assert prepare("motion", SMALLEST, tmp_path) == folder
  assert json.loads((folder / FACTS).read_text()) == json.loads(facts)


def test_the_data_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch):
  """$VU_JAX_DATA wins over the home folder; an empty one counts as none."""
  monkeypatch.setenv("VU_JAX_DATA", "/somewhere")
  assert default_data_dir() == pathlib.Path("/somewhere")
  monkeypatch.setenv("VU_JAX_DATA", "")
  assert default_data_dir() == pathlib.Path.home() / ".cache" / "vu_jax"


def test_unknown_splits_are_named_with_their_key(tiny_motion: pathlib.Path):
  """The key that named the split, and the splits there are."""
  facts = read_facts(tiny_motion)
  check_split(facts, "test", "config.train.eval_split")
  with pytest.raises(UserError, match=r'config\.train\.eval_split = "val": .*\(it has .*validation'):
    check_split(facts, "val", "config.train.eval_split")


def test_clips_that_the_store_cannot_give_are_refused_before_training(tiny_motion: pathlib.Path):
  """8 frames of 32x32 px give a clip of 8 frames of 32 px and no more; the video is named."""
  facts = read_facts(tiny_motion)
  check_stored(facts, Clip(num_frames=8), Pixels(crop=32))
  check_stored(facts, Clip(num_frames=9, short="repeat"), Pixels(crop=40, short_side=40))
  with pytest.raises(UserError, match=r"video \w+/\d{5}_\w+: a clip of 9 frames spans 9 frames, but the video has 8"):
    check_stored(facts, Clip(num_frames=9), Pixels(crop=32))
  with pytest.raises(UserError, match=r"video \w+/\d{5}_\w+: config\.pixels\.crop = 33: .* 32x32 px"):
    check_stored(facts, Clip(num_frames=8), Pixels(crop=33))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Two classes of two videos of 4 frames, 24x16 px, each frame of one gray."""
  root = tmp_path_factory.mktemp("folder")
  for number in range(4):
    frames = np.stack([np.full((16, 24, 3), 60 + 20 * number + 5 * t, np.uint8) for t in range(4)])
    file = root / "ab"[number % 2] / f"{number}.mp4"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(encode_video(frames, 10.0).video)
  return root


@pytest.mark.parametrize("store", ["intra", "jpeg", "source", "raw"])
def test_every_store_gives_the_clips(folder: pathlib.Path, tmp_path: pathlib.Path, store: Store):
  """Facts and pictures are those of the videos, also in another process; bytes are what lies on the disk."""
  directory = prepare("video_folder", Folder(root=str(folder), store=store, test_frac=0), tmp_path)
  about = read_facts(directory)
  source = pickle.loads(pickle.dumps(PreparedSource(directory, "train")))
  assert (len(source), about["splits"]["train"]["sizes_px"]) == (4, [["24x16", 4]])
  for example in (source[i] for i in range(4)):
    number = int(example["id"][2])
    clip = decode_clip(example["video"], np.array([1, 3]), whole(16, 24))
    np.testing.assert_allclose(clip[:, 8, 12, 0], [60 + 20 * number + 5, 60 + 20 * number + 15], atol=2)
  if store == "raw":
    assert (
      about["splits"]["train"]["bytes"]
      == 4 * 4 * 16 * 24 * 3
      == sum(file.stat().st_size for file in directory.glob("*.u8"))
    )


def test_too_small_a_disk_is_said_before(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """Raw clips need what their pixels take; without so much room nothing is written."""
  options = Folder(root=str(folder), store="raw", test_frac=0)
  builder = FolderBuilder(data_dir=tmp_path, config=ClipsConfig(name="x", options=options))
  assert builder.estimated_bytes() == 4 * 4 * 16 * 24 * 3
  monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=4000))
  with pytest.raises(UserError, match=r"need about 0\.0 GiB, but .* has 0\.0 GiB free: name another place"):
    prepare("video_folder", options, tmp_path / "new" / "place")
  assert not (tmp_path / "new").exists()
