"""The user's own videos: what is found, how it is divided, what is stored, what is said if it cannot be."""

import csv
import os
import pathlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from vu_jax.data.builders.video_folder import Builder, Options, fingerprint, list_clips
from vu_jax.data.features import ClipsConfig
from vu_jax.data.listing.division import divide
from vu_jax.data.listing.folders import Clip
from vu_jax.data.video.decode import decode_frames, iterate_frames, probe
from vu_jax.data.video.transcode import encode_video
from vu_jax.errors import UserError


def write_video(path: pathlib.Path, value: int = 100, count: int = 4) -> pathlib.Path:
  """A video of flat gray frames, 10 per second, one gray level brighter in every frame."""
  path.parent.mkdir(parents=True, exist_ok=True)
  levels = value + np.arange(count, dtype=np.uint8)
  path.write_bytes(encode_video(np.broadcast_to(levels[:, None, None, None], (count, 16, 24, 3)), 10.0).video)
  return path


def write_table(path: pathlib.Path, rows: list[list[Any]], delimiter: str = ",", encoding: str = "utf-8") -> str:
  with path.open("w", newline="", encoding=encoding) as file:
    csv.writer(file, delimiter=delimiter).writerows(rows)
  return str(path)


def class_folders(root: pathlib.Path, per_class: int = 5) -> Options:
  for place, label in enumerate(("wave", "clap")):
    for number in range(per_class):
      write_video(root / label / f"{number}.mp4", 50 * place + 10 * number)
  return Options(root=str(root))


def prepare(options: Options, data_dir: pathlib.Path, **attributes: Any) -> Builder:
  tfds.disable_progress_bar()
  config = ClipsConfig(name=fingerprint(options), options=options)
  builder = Builder(config=config, data_dir=str(data_dir))
  for name, value in attributes.items():
    setattr(builder, name, value)
  builder.download_and_prepare(file_format="array_record")
  return builder


def stored(builder: Builder) -> dict[str, dict[str, Any]]:
  """id -> example of all splits, with the split added."""
  reopened = tfds.builder_from_directory(builder.data_dir)
  return {
    example["id"].decode(): example | {"split": split}
    for split in reopened.info.splits
    for example in reopened.as_data_source(split)
  }


def test_class_folders_become_a_labelled_divided_dataset(tmp_path: pathlib.Path):
  """Every video of a class folder is stored once, with class, facts and pictures, in one of the splits."""
  options = class_folders(tmp_path / "videos")
  write_video(tmp_path / "videos" / "wave" / "deeper" / "UPPER.MP4", 200)
  for ignored in ("wave/.hidden.mp4", ".git/x.mp4", "wave/notes.txt"):
    (tmp_path / "videos" / ignored).parent.mkdir(exist_ok=True)
    (tmp_path / "videos" / ignored).write_text("no video")
  calls = []
  builder = prepare(options, tmp_path / "data", progress=lambda *counts: calls.append(counts))
  examples = stored(builder)
  assert builder.info.features["label"].names == ["clap", "wave"]
  assert set(examples) == {f"{c}/{n}.mp4" for c in ("clap", "wave") for n in range(5)} | {"wave/deeper/UPPER.MP4"}
  assert Counter((e["split"], int(e["label"])) for e in examples.values()) == {
    ("train", 0): 4, ("test", 0): 1, ("train", 1): 5, ("test", 1): 1,
  }  # fmt: skip
  assert calls == [(n, 11) for n in range(1, 12)]
  assert builder.rejected == []
  example = examples["clap/2.mp4"]
  assert [int(example[key]) for key in ("label", "num_frames", "height", "width")] == [0, 4, 16, 24]
  assert float(example["fps"]) == 10
  assert probe(example["video"]).all_intra
  frames = decode_frames(example["video"], np.arange(4))
  np.testing.assert_allclose(frames[:, 8, 8, 0], 70 + np.arange(4), atol=2)


def test_large_videos_are_stored_small(tmp_path: pathlib.Path):
  """The short side is reduced to the configured one; a video that is smaller keeps its size."""
  options = class_folders(tmp_path / "videos", per_class=2)
  big = np.full((3, 60, 80, 3), 90, np.uint8)
  (tmp_path / "videos" / "wave" / "big.mp4").write_bytes(encode_video(big, 10.0).video)
  examples = stored(prepare(Options(root=options.root, short_side=30), tmp_path / "data"))
  assert (int(examples["wave/big.mp4"]["height"]), int(examples["wave/big.mp4"]["width"])) == (30, 40)
  assert int(examples["wave/0.mp4"]["height"]) == 16


def test_split_folders_decide_the_splits(tmp_path: pathlib.Path):
  """train/, val/ and test/ with class folders are taken as they are; fractions do not matter."""
  for split, count in (("train", 2), ("val", 1), ("test", 1)):
    for label in ("a", "b"):
      for number in range(count):
        write_video(tmp_path / "v" / split / label / f"{number}.mp4")
  clips = list_clips(Options(root=str(tmp_path / "v"), test_frac=0.5))
  assert Counter((clip.split, clip.label) for clip in clips) == {
    (split, label): count for split, count in (("train", 2), ("validation", 1), ("test", 1)) for label in ("a", "b")
  }
  assert clips[0].id == "test/a/0.mp4"


def test_a_class_may_be_called_train(tmp_path: pathlib.Path):
  """One folder named as a split among other classes is a class (trains, buses, ...)."""
  for label in ("train", "bus"):
    for number in range(2):
      write_video(tmp_path / label / f"{number}.mp4")
  assert {clip.label for clip in list_clips(Options(root=str(tmp_path)))} == {"train", "bus"}


def test_classes_are_divided_by_fractions_seed_and_path():
  """Shares are met in every class; another seed divides otherwise; new clips do not reshuffle old ones."""
  clips = [Clip(f"{label}/{n}", pathlib.Path(), label, "") for label in "ab" for n in range(20)]
  divided = divide(clips, test_frac=0.2, validation_frac=0.1, seed=0)
  assert Counter((c.label, c.split) for c in divided) == {
    (label, split): count for label in "ab" for split, count in (("train", 14), ("validation", 2), ("test", 4))
  }
  assert divided == divide(clips[::-1], test_frac=0.2, validation_frac=0.1, seed=0)[::-1]
  assert divided != divide(clips, test_frac=0.2, validation_frac=0.1, seed=1)
  more = divide([*clips, Clip("a/new", pathlib.Path(), "a", "")], test_frac=0.2, validation_frac=0.1, seed=0)
  assert sum(a.split != b.split for a, b in zip(divided, more, strict=False)) <= 2
  two = divide(clips[:2], test_frac=0.01, validation_frac=0.5, seed=0)
  assert sorted(clip.split for clip in two) == ["test", "train"]


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_table_names_clips_and_parts_of_videos(delimiter: str, encoding: str, tmp_path: pathlib.Path):
  """Rows give path, label, split and part; a part holds the frames of its span; columns can be renamed."""
  write_video(tmp_path / "v" / "long.mp4", 50, count=40)
  write_video(tmp_path / "v" / "other.mp4", 150)
  rows = [
    ["file", "class", "split", "start_s", "end_s"],
    ["long.mp4", "dark", "train", "", "1.0"],
    ["./long.mp4", "dark", "TEST", "2.5", "3.0"],
    [str(tmp_path / "v" / "other.mp4"), "light", "train", "", ""],
    ["other.mp4", "light", "val", "0.1", ""],
  ]
  table = write_table(tmp_path / "table.csv", rows, delimiter, encoding)
  options = Options(root=str(tmp_path / "v"), csv=table, path_column="file", label_column="class")
  examples = stored(prepare(options, tmp_path / "data"))
  assert {key: (e["split"], int(e["label"]), int(e["num_frames"])) for key, e in examples.items()} == {
    "long.mp4#0-1": ("train", 0, 10),
    "long.mp4#2.5-3": ("test", 0, 5),
    "other.mp4": ("train", 1, 4),
    "other.mp4#0.1-inf": ("validation", 1, 3),
  }
  frames = decode_frames(examples["long.mp4#2.5-3"]["video"], np.array([0, 4]))
  np.testing.assert_allclose(frames[:, 8, 8, 0], [75, 79], atol=2)


def test_unreadable_videos_are_named_and_left_out(tmp_path: pathlib.Path):
  """A few broken files do not stop the preparation; their names and reasons are kept with the dataset."""
  options = class_folders(tmp_path / "videos", per_class=6)
  (tmp_path / "videos" / "clap" / "broken.mp4").write_text("no video")
  builder = prepare(options, tmp_path / "data")
  ((name, reason),) = builder.rejected
  assert name == "clap/broken.mp4"
  assert "not a video" in reason
  assert len(stored(builder)) == 12
  config = ClipsConfig(name=fingerprint(options), options=options)
  assert Builder(config=config, data_dir=str(tmp_path / "data")).rejected == [(name, reason)]


def test_a_failed_preparation_leaves_nothing_behind(tmp_path: pathlib.Path):
  """Too many broken files stop it with number, names and reasons; no folder can be taken for finished."""
  options = class_folders(tmp_path / "videos", per_class=4)
  for number in range(2):
    (tmp_path / "videos" / "wave" / f"broken{number}.mp4").write_bytes(b"")
  with pytest.raises(UserError, match=r"at least 2 of 10 clips .* \(20%\) .*wave/broken0.mp4: empty") as caught:
    prepare(options, tmp_path / "data")
  assert "\n" not in str(caught.value)
  assert not list((tmp_path / "data").rglob("*.array_record*"))
  assert not list((tmp_path / "data").rglob("dataset_info.json"))
  tolerant = Options(root=options.root, max_rejected_frac=0.3)
  assert len(stored(prepare(tolerant, tmp_path / "data"))) == 8


def test_a_class_that_loses_all_training_clips_stops_the_preparation(tmp_path: pathlib.Path):
  """A class of which no training clip can be read is no class to train."""
  for label in ("a", "b"):
    for split in ("train", "test"):
      write_video(tmp_path / "v" / split / label / "0.mp4")
  (tmp_path / "v" / "train" / "b" / "0.mp4").write_text("no video")
  with pytest.raises(UserError, match=r"no clip of class 'b' in the split train can be read: train/b/0.mp4: "):
    prepare(Options(root=str(tmp_path / "v"), max_rejected_frac=0.5), tmp_path / "data")


def test_the_fingerprint_follows_what_would_be_stored(tmp_path: pathlib.Path):
  """It changes with options and files, and stays when the folder is merely moved."""
  options = class_folders(tmp_path / "videos", per_class=2)
  first = fingerprint(options)
  os.rename(tmp_path / "videos", tmp_path / "moved")
  root = str(tmp_path / "moved")
  assert fingerprint(Options(root=root)) == first
  seen = {first, fingerprint(Options(root=root, short_side=64)), fingerprint(Options(root=root, crf=20))}
  seen |= {fingerprint(Options(root=root, seed=seed)) for seed in range(1, 9)}  # 2 clips: 4 ways to divide
  assert len(seen) >= 5
  changed = tmp_path / "moved" / "wave" / "0.mp4"
  os.utime(changed, (1, 1))
  touched = fingerprint(Options(root=root))
  write_video(tmp_path / "moved" / "wave" / "new.mp4")
  assert len({first, touched, fingerprint(Options(root=root))}) == 3


def test_links_in_a_circle_end(tmp_path: pathlib.Path):
  """Linked folders are followed, but a link to a folder above it is not followed for ever."""
  options = class_folders(tmp_path / "videos", per_class=2)
  (tmp_path / "videos" / "wave" / "again").symlink_to(tmp_path / "videos")
  (tmp_path / "linked").symlink_to(tmp_path / "videos" / "clap")
  assert len(list_clips(options)) == 4
  (tmp_path / "videos" / "third").symlink_to(write_video(tmp_path / "c" / "0.mp4").parent)
  write_video(tmp_path / "c" / "1.mp4")
  assert len(list_clips(options)) == 6


HEAD = ["path", "label", "split"]
GOOD = [["a0.mp4", "a", "train"], ["a1.mp4", "a", "test"]]
TABLES = {
  "column": (
    [["clip", "label", "split"], *GOOD],
    r"no column 'path'; it has clip, label, split; set path_column",
  ),
  "nearest": (
    [["path", "labels", "split"], *GOOD],
    r"no column 'label'; .*did you mean 'labels'\? set label_col",
  ),
  "no label": ([HEAD, *GOOD, ["a2.mp4", "", "train"]], r"line 4 has nothing in column 'label'"),
  "no path": ([HEAD, *GOOD, ["", "a", "train"]], r"line 4 has nothing in column 'path'"),
  "short row": ([HEAD, *GOOD, ["a2.mp4"]], r"line 4 has nothing in column 'label'"),
  "split": (
    [HEAD, *GOOD, ["a2.mp4", "a", "dev"]],
    r"line 4 has the unknown split 'dev'; write train, validation",
  ),
  "twice": ([HEAD, *GOOD, ["./a0.mp4", "a", "test"]], r"line 4 repeats line 2, a0.mp4"),
  "single": (
    [HEAD, *GOOD, ["a2.mp4", "b", "train"]],
    r"only one clip of class 'b'; a class needs at least 2",
  ),
  "untrained": (
    [HEAD, *GOOD, ["a2.mp4", "b", "test"], ["a3.mp4", "b", "val"]],
    r"no clip of class 'b' is in the split train",
  ),
  "no train": (
    [HEAD, ["a0.mp4", "a", "test"], ["a1.mp4", "a", "val"]],
    r"no clip is in the split train \(1 in test",
  ),
  "no rows": ([HEAD], r"has no rows below its header"),
  "empty": ([], r"no column 'path'; it has an empty header"),
  "absent": (
    [HEAD, ["x.mp4", "a", "train"], ["y.mp4", "a", "test"]],
    r"none of its 2 files exists \(first: /.*x\.mp4",
  ),
  "seconds": ([[*HEAD, "start_s"], [*GOOD[0], "one"]], r"line 2: start 'one' and end '' must be seconds"),
  "span": ([[*HEAD, "start_s", "end_s"], [*GOOD[0], "2", "1"]], r"line 2: start '2' and end '1' must fulfil"),
}


@pytest.mark.parametrize("case", TABLES)
def test_faulty_tables_are_explained_in_one_line(case: str, tmp_path: pathlib.Path):
  """What is wrong in a table is said with its line or column, before any video is opened."""
  rows, message = TABLES[case]
  for number in range(4):
    (tmp_path / f"a{number}.mp4").touch()
  write_table(tmp_path / "t.csv", rows)
  with pytest.raises(UserError, match=message) as caught:
    fingerprint(Options(root=str(tmp_path), csv="t.csv"))
  assert "\n" not in str(caught.value)


def touch(*names: str) -> Callable[[pathlib.Path], None]:
  def make(root: pathlib.Path) -> None:
    for name in names:
      (root / name).parent.mkdir(parents=True, exist_ok=True)
      (root / name).touch()

  return make


FOLDERS: dict[str, tuple[Callable[[pathlib.Path], None], dict[str, Any], str]] = {
  "no videos": (touch("a/notes.txt"), {}, r"no videos in /.*: looked in CLASS folders for .*\.mp4"),
  "single": (touch("a/0.mp4", "a/1.mp4", "b/0.mp4"), {}, r"only one clip of class 'b'; a class needs"),
  "loose": (
    touch("a/0.mp4", "a/1.mp4", "x.mp4"),
    {},
    r"1 of 3 videos .* lie in no class folder \(first: x\.mp4\)",
  ),
  "no class": (touch("train/0.mp4", "test/0.mp4"), {}, r"2 of 2 videos .* in no class folder"),
  "mixed": (touch("train/a/0.mp4", "test/a/0.mp4", "b/0.mp4"), {}, r"split folders .* \(first: b\)"),
  "no train": (touch("test/a/0.mp4", "test/a/1.mp4"), {}, r"no clip is in the split train \(2 in test\)"),
  "fractions": (touch("a/0.mp4"), {"test_frac": 0.6, "validation_frac": 0.4}, r"must add up to less than 1"),
  "root": (lambda root: None, {"root": "/no/such/folder"}, r"there is no folder /no/such/folder; set root"),
  "file": (touch("x.mp4"), {"root": "x.mp4"}, r"/.*/x\.mp4 is a file; set root to the folder"),
  "table": (
    touch("a/0.mp4"),
    {"csv": "t.csv"},
    r"there is no table /.*/t\.csv; csv is a path relative to root",
  ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_faulty_folders_are_explained_in_one_line(case: str, tmp_path: pathlib.Path, monkeypatch: Any):
  """What is wrong with the folders is said with the place and the way to mend it."""
  make, options, message = FOLDERS[case]
  make(tmp_path)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=message) as caught:
    fingerprint(Options(**({"root": str(tmp_path)} | options)))
  assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding_is_explained(tmp_path: pathlib.Path):
  """A table that is not UTF-8 is refused by name."""
  (tmp_path / "t.csv").write_bytes("path,label,split\na0.mp4,Grüße,train\n".encode("latin-1"))
  with pytest.raises(UserError, match=re.escape(f"{tmp_path / 't.csv'} is not a CSV table in UTF-8")):
    fingerprint(Options(root=str(tmp_path), csv="t.csv"))


def test_real_clips_keep_their_frames(tmp_path: pathlib.Path, shared_data: pathlib.Path):
  """Of real footage every frame is stored, in place and looking like its source."""
  jhmdb = shared_data / "jhmdb"
  with (jhmdb / "jhmdb_splits.csv").open() as file:
    rows = [row for row in csv.DictReader(file) if row["label"] in ("jump", "golf")]
  groups = [[r for r in rows if (r["label"], r["split1"]) == key] for key in
            [("jump", "train"), ("jump", "test"), ("golf", "train"), ("golf", "test")]]  # fmt: skip
  chosen = [row for group in groups for row in group[:2]]
  columns = ["clip", "label", "split1"]
  table = write_table(tmp_path / "t.csv", [columns, *([row[name] for name in columns] for row in chosen)])
  options = Options(root=str(jhmdb), csv=table, path_column="clip", split_column="split1")
  examples = stored(prepare(options, tmp_path / "data"))
  assert len(examples) == len(chosen) == 8
  for row in chosen:
    example = examples[row["clip"]]
    source = np.stack([rgb for _, rgb in iterate_frames(jhmdb / row["clip"], short_side=128)]).astype(float)
    assert int(example["num_frames"]) == int(row["frames"]) == len(source)
    assert float(example["fps"]) == 30
    kept = decode_frames(example["video"], np.arange(len(source)))
    assert 10 * np.log10(255**2 / ((kept - source) ** 2).mean(axis=(1, 2, 3))).min() > 27
