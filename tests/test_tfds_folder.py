"""Directories that TFDS prepared elsewhere: read bit for bit without TensorFlow, and stored as our own clips."""

import itertools
import json
import os
import pathlib
import re
import shutil
from collections import Counter
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.crc32c import crc32c as peer_crc32c
from tensorboardX.record_writer import RecordWriter
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from vu_jax.data.builders.tfds_folder import Options, divide, fingerprint, open_catalogue, read_frames
from vu_jax.data.clips import Clip
from vu_jax.data.crc32c import crc32c
from vu_jax.data.loader import load_clip
from vu_jax.data.prepare import prepare, read_facts
from vu_jax.data.source import PreparedSource
from vu_jax.data.tfds_directory import find_directory, open_directory, read_records, shards
from vu_jax.data.video.decode import decode_frames
from vu_jax.data.video.view import Pixels
from vu_jax.errors import UserError

FEATURE = "tensorflow_datasets.core.features."
VIDEO, AUDIO, IMAGE = FEATURE + "video_feature.Video", FEATURE + "audio_feature.Audio", FEATURE + "image_feature.Image"
CLASS_LABEL, SEQUENCE = FEATURE + "class_label_feature.ClassLabel", FEATURE + "sequence_feature.Sequence"
FEATURES_DICT = FEATURE + "features_dict.FeaturesDict"
LABEL = {"pythonClassName": CLASS_LABEL, "classLabel": {"numClasses": "3"}}
NAMES = ("ApplyEyeMakeup", "Archery", "YoYo")  # the last one has no clips


def shaped(*sides: int) -> dict[str, Any]:
  return {"shape": {"dimensions": [str(side) for side in sides]}, "dtype": "uint8"}


def video(*sides: int) -> dict[str, Any]:
  """As TFDS writes it for `Video(shape=sides)`; -1 stands for None."""
  return {"pythonClassName": VIDEO, "video": shaped(*sides) | {"encodingFormat": "png"}}


def as_dict(features: dict[str, Any]) -> dict[str, Any]:
  """The content of features.json."""
  return {"pythonClassName": FEATURES_DICT, "featuresDict": {"features": features}}


def picture(frame: np.ndarray, ending: str = ".png") -> bytes:
  """(H W C) RGB or gray -> PNG or JPEG."""
  return cv2.imencode(ending, frame[..., ::-1] if frame.shape[-1] == 3 else frame)[1].tobytes()


def example(**features: Any) -> bytes:
  """A serialized tf.train.Example; lists of bytes are pictures, an int is a label."""
  made = {
    key: tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[value]))
    if isinstance(value, int)
    else tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=value))
    for key, value in features.items()
  }
  return tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=made)).SerializeToString()


def write_directory(
  directory: pathlib.Path,
  features: dict[str, Any],
  splits: dict[str, list[list[bytes]]],
  kind: str = "tfrecord",
) -> pathlib.Path:
  """A version directory NAME/VERSION as the catalogue's; `splits` holds the records of each file."""
  directory.mkdir(parents=True)
  name = directory.parent.name
  about = []
  for split, files in splits.items():
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    lengths = {"shardLengths": [str(len(records)) for records in files], "numBytes": "1"}
    about.append({"name": split, "filepathTemplate": template, **lengths})
    for number, records in enumerate(files):
      path = str(directory / f"{name}-{split}.{kind}-{number:05d}-of-{len(files):05d}")
      writer = RecordWriter(path) if kind == "tfrecord" else ArrayRecordWriter(path, "group_size:1")
      for record in records:
        writer.write(record)
      writer.close()
  info = {"name": name, "version": directory.name, "fileFormat": kind, "splits": about, "moduleName": "x.y"}
  (directory / "dataset_info.json").write_text(json.dumps(info))
  (directory / "features.json").write_text(json.dumps(features))
  return directory


def moving_mnist(root: pathlib.Path, count: int = 6) -> tuple[pathlib.Path, np.ndarray]:
  """(count 20 64 64 1) gray clips as PNG in two TFRecord files of the one split "test"."""
  clips = np.random.default_rng(0).integers(0, 256, (count, 20, 64, 64, 1), np.uint8)
  records = [example(image_sequence=[picture(frame) for frame in clip]) for clip in clips]
  features = as_dict({"image_sequence": video(20, 64, 64, 1)})
  return write_directory(root / "moving_mnist" / "1.0.0", features, {"test": [records[:4], records[4:]]}), clips


def smooth(label: int, number: int, count: int, height: int = 256, width: int = 256) -> np.ndarray:
  """(T H W 3) colour ramps that survive compression; the first pixel tells them apart."""
  ramp = np.linspace(0, 60, width, dtype=np.uint8)
  levels = 10 * number + 4 * np.arange(count)[:, None, None, None] + ramp[:, None]
  return np.broadcast_to(np.add(levels, [0, 40 * label, 80]), (count, height, width, 3)).astype(np.uint8)


def ucf101(root: pathlib.Path, kind: str = "tfrecord", ending: str = ".png") -> pathlib.Path:
  """Five training clips in two files and two test clips, of 256x256 px and 3 frames or more."""
  features = as_dict({"label": LABEL, "video": video(-1, 256, 256, 3)})
  made = {
    split: [
      example(label=n % 2, video=[picture(f, ending) for f in smooth(n % 2, n, 3 + n)]) for n in range(first, last)
    ]
    for split, first, last in (("train", 0, 5), ("test", 5, 7))
  }
  files = {"train": [made["train"][:2], made["train"][2:]], "test": [made["test"]], "none": [[]]}
  directory = write_directory(root / "ucf101" / "ucf101_1_256" / "2.0.0", features, files, kind)
  (directory / "label.labels.txt").write_text("\n".join(NAMES) + "\n")
  return directory


def states(folder: pathlib.Path) -> dict[pathlib.Path, int]:
  return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def stored(directory: pathlib.Path) -> dict[str, dict[str, Any]]:
  """id -> example of all splits, with the split added."""
  sources = {split: PreparedSource(directory, split) for split in read_facts(directory)["splits"]}
  return {
    source[i]["id"]: source[i] | {"split": split} for split, source in sources.items() for i in range(len(source))
  }


def test_checksums_by_hand_and_by_a_peer():
  """The check value of CRC-32C, and the long messages that lanes and pieces divide unevenly."""
  assert crc32c(b"123456789") == 0xE3069283
  assert crc32c(b"") == 0
  for size in (1, 255, 256, 257, 511, 5000, (1 << 20) + 3):
    message = np.random.default_rng(size).bytes(size)
    assert crc32c(message) == peer_crc32c(message), size


@given(st.binary(max_size=1500))
def test_checksums_of_anything(message: bytes):
  assert crc32c(message) == peer_crc32c(message)


def test_our_examples_are_those_of_tfds(tmp_path: pathlib.Path):
  """What the tests write is what TFDS serializes from encoded frames."""
  directory, clips = moving_mnist(tmp_path)
  frames = [picture(frame) for frame in clips[0]]
  theirs = open_directory(directory).info.features.serialize_example({"image_sequence": frames})
  ours = example(image_sequence=frames)
  assert tf_example_pb2.Example.FromString(theirs) == tf_example_pb2.Example.FromString(ours)


def test_frames_are_read_bit_for_bit(tmp_path: pathlib.Path):
  """Gray PNG frames come back as they were, streamed from TFRecord; nothing is written to the directory."""
  directory, clips = moving_mnist(tmp_path)
  before = states(tmp_path / "moving_mnist")
  builder = open_directory(directory)
  assert [shard.count for shard in shards(builder, "test")] == [4, 2]
  read = list(read_records(shards(builder, "test"), [1, 3, 4]))
  assert [number for number, _ in read] == [1, 3, 4]
  for number, record in read:
    pictures = tf_example_pb2.Example.FromString(record).features.feature["image_sequence"].bytes_list.value
    frames = np.stack(list(read_frames(pictures)))
    np.testing.assert_array_equal(frames, np.repeat(clips[number], 3, axis=-1))
  assert states(tmp_path / "moving_mnist") == before


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_both_formats_hold_the_same(ending: str, tmp_path: pathlib.Path):
  """Colour frames and labels from TFRecord and ArrayRecord; JPEG frames as OpenCV decodes them."""
  record, array = ucf101(tmp_path / "a", ending=ending), ucf101(tmp_path / "b", "array_record", ending)
  assert open_directory(record).info.features["label"].names == list(NAMES)
  wanted = range(5)
  read = [list(read_records(shards(open_directory(d), "train"), wanted)) for d in (record, array)]
  assert read[0] == read[1]
  source = open_directory(array).as_data_source("train")
  first, coded = smooth(1, 3, 6), [picture(f, ending) for f in smooth(1, 3, 6)]
  expected = np.stack([cv2.imdecode(np.frombuffer(c, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for c in coded])
  np.testing.assert_array_equal(source[3]["video"], expected)
  assert np.abs(expected.astype(int) - first).max() <= (0 if ending == ".png" else 8)
  assert int(source[3]["label"]) == 1


def bounds(records: list[bytes]) -> list[int]:
  """First byte of each record in a TFRecord file, and the end of the file."""
  return list(itertools.accumulate((16 + len(record) for record in records), initial=0))


@pytest.mark.parametrize(
  ("damage", "byte", "message"),
  [
    (lambda raw, at: raw[: at[1] + 30], 1, "the file is cut short in record 1"),
    (lambda raw, at: raw[: at[1] + 5], 1, "the file is cut short in record 1"),
    (lambda raw, at: raw[: at[2] - 1], 1, "the file is cut short in record 1"),
    (lambda raw, at: raw[: at[2]], 2, "the file ends after 2 of its 3 records"),
    (lambda raw, at: flipped(raw, at[1] + 600), 1, "the file is damaged: record 1 has a wrong checksum"),
    (lambda raw, at: flipped(raw, at[2] - 1), 1, "the file is damaged: record 1 has a wrong checksum"),
    (lambda raw, at: flipped(raw, at[1] + 1), 1, "the file is damaged: the length of record 1 has a wrong checksum"),
  ],
)
def test_damaged_tfrecords_name_file_and_byte(damage: Any, byte: int, message: str, tmp_path: pathlib.Path):
  """Every kind of damage is found, before the record that has it is used."""
  records = [np.random.default_rng(n).bytes(700 + n) for n in range(3)]
  directory = write_directory(tmp_path / "x" / "1.0.0", as_dict({"video": video(-1, 8, 8, 3)}), {"train": [records]})
  (file,) = directory.glob("*.tfrecord*")
  file.write_bytes(damage(file.read_bytes(), bounds(records)))
  reader = read_records(shards(open_directory(directory), "train"), range(3))
  place = bounds(records)[byte]
  for number in range(byte):
    assert next(reader) == (number, records[number])
  with pytest.raises(UserError, match=f"^{re.escape(str(file))}, byte {place}: {message}; copy or prepare it anew$"):
    next(reader)


def flipped(raw: bytes, place: int) -> bytes:
  return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def test_damaged_array_records_name_the_file(tmp_path: pathlib.Path):
  """A file that is cut short cannot be opened; a flipped bit is found in its record."""
  records = [np.random.default_rng(n).bytes(5000) for n in range(3)]
  features = as_dict({"video": video(-1, 8, 8, 3)})
  directory = write_directory(tmp_path / "x" / "1.0.0", features, {"train": [records]}, "array_record")
  (file,) = directory.glob("*.array_record*")
  whole = file.read_bytes()
  found = shards(open_directory(directory), "train")
  file.write_bytes(whole[:-100])
  with pytest.raises(UserError, match=rf"^{re.escape(str(file))}: 0 of its 3 records can be found; it is cut short"):
    list(read_records(found, range(3)))
  file.write_bytes(flipped(whole, whole.index(records[1]) + 9))
  assert next(read_records(found, [0])) == (0, records[0])
  with pytest.raises(UserError, match=rf"^{re.escape(str(file))}: record 1 is damaged \(.*at \d+") as caught:
    list(read_records(found, range(3)))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_a_labelled_dataset_is_prepared(kind: str, tmp_path: pathlib.Path):
  """From a folder above the version to a batch entry: splits, classes, lengths and pictures are those of the set."""
  root = ucf101(tmp_path, kind).parents[1]
  calls: list[tuple[int, int]] = []
  options = Options(root=str(root), fps=29.97, short_side=64)
  directory = prepare("tfds_folder", options, tmp_path / "data", lambda *counts: calls.append(counts))
  facts = read_facts(directory)
  assert facts["labels"] == list(NAMES)
  assert {split: list(about["classes"].values()) for split, about in facts["splits"].items()} == {
    "train": [3, 2, 0], "test": [1, 1, 0],
  }  # fmt: skip
  assert (calls[-1], len(calls), facts["rejected"]) == ((7, 7), 7, [])
  examples = stored(directory)
  assert set(examples) == {f"train/00000{n}" for n in range(5)} | {"test/000000", "test/000001"}
  one = examples["test/000001"]
  assert [int(one[key]) for key in ("label", "num_frames", "height", "width")] == [0, 9, 64, 64]
  assert float(one["fps"]) == np.float32(29.97)
  small = cv2.resize(smooth(0, 6, 9)[5], (64, 64), interpolation=cv2.INTER_AREA)
  assert np.abs(decode_frames(one["video"], np.array([5]))[0].astype(int) - small).max() <= 6
  source = PreparedSource(directory, "train")
  loaded = load_clip(source, Clip(num_frames=2), Pixels(crop=64), 0, None)
  assert loaded["video"].shape == (2, 64, 64, 3)
  assert int(loaded["label"]) == int(source[0]["id"][-1]) % 2


def test_an_unlabelled_gray_dataset_is_prepared(tmp_path: pathlib.Path):
  """moving_mnist: its one split is divided, its clips get the one class, its frames are gray in RGB."""
  directory, clips = moving_mnist(tmp_path)
  options = Options(root=str(directory), train_split="test", test_frac=0.3, validation_frac=0.2, crf=0)
  facts = read_facts(prepared := prepare("tfds_folder", options, tmp_path / "data"))
  assert facts["labels"] == ["unlabelled"]
  assert {split: about["clips"] for split, about in facts["splits"].items()} == {"train": 3, "validation": 1, "test": 2}
  examples = stored(prepared)
  assert set(examples) == {f"test/00000{n}" for n in range(6)}
  for clip_id, one in examples.items():
    frames = decode_frames(one["video"], np.arange(20)).astype(int)
    assert np.ptp(frames, axis=-1).max() <= 1
    assert np.abs(frames - clips[int(clip_id[-1])]).max() <= 2  # limited range has 219 levels
  few = prepare("tfds_folder", Options(root=str(directory), train_split="test", max_clips=2), tmp_path / "data")
  assert {split: about["clips"] for split, about in read_facts(few)["splits"].items()} == {"train": 2, "test": 1}


def robot(root: pathlib.Path) -> pathlib.Path:
  """Like bair_robot_pushing_small: a sequence of two pictures and a number, of 15x21 px."""
  frames = np.random.default_rng(1).integers(0, 256, (2, 3, 15, 21, 3), np.uint8)
  images = {key: {"pythonClassName": IMAGE, "image": shaped(15, 21, 3)} for key in ("image_aux1", "image_main")}
  features = {"pythonClassName": SEQUENCE, "sequence": {"feature": as_dict(images), "length": "3"}}
  records = [example(**{key: [picture(f) for f in frames[i]] for i, key in enumerate(sorted(images))})] * 4
  return write_directory(root / "bair" / "2.0.0", features, {"train": [records], "test": [records[:1]]})


def test_pictures_in_a_sequence_are_a_video(tmp_path: pathlib.Path):
  """Of two cameras one must be named; sides that are odd lose a pixel."""
  directory = robot(tmp_path)
  with pytest.raises(
    UserError, match=r"video_key must be set to one of image_aux1, image_main \(.* has image_aux1 \(seq"
  ):
    fingerprint(Options(root=str(directory)))
  options = Options(root=str(directory), video_key="image_main")
  examples = stored(prepare("tfds_folder", options, tmp_path / "data"))
  assert Counter((e["split"], int(e["height"]), int(e["width"])) for e in examples.values()) == {
    ("train", 14, 20): 4, ("test", 14, 20): 1,
  }  # fmt: skip


def flawed(root: pathlib.Path) -> pathlib.Path:
  """Eight clips of which four cannot be used."""
  good = [picture(frame) for frame in smooth(0, 0, 3, 16, 16)]
  odd = picture(smooth(0, 0, 1, 16, 18)[0])
  records = [example(label=0, video=good)] * 4
  records += [example(label=-1, video=good), example(label=1, video=[]), example(label=1, video=[good[0], b"no PNG"])]
  records += [example(label=2, video=[good[0], odd])]
  features = as_dict({"label": LABEL, "video": video(-1, -1, -1, 3)})
  return write_directory(root / "flawed" / "1.0.0", features, {"train": [records]})


def test_clips_that_cannot_be_used_are_named_and_left_out(tmp_path: pathlib.Path):
  """No label, no frames, a damaged picture, pictures of two sizes; too many of them stop the preparation."""
  directory = flawed(tmp_path)
  options = Options(root=str(directory), test_frac=0.0, max_rejected_frac=0.5)
  facts = read_facts(prepare("tfds_folder", options, tmp_path / "data"))
  assert (facts["labels"], facts["splits"]["train"]["clips"]) == (["0", "1", "2"], 4)
  assert {item["id"]: item["reason"] for item in facts["rejected"]} == {
    "train/000004": "its label is -1, which is none of the 3 classes",
    "train/000005": "it has no frames",
    "train/000006": "picture 1 is damaged, or not an 8-bit picture",
    "train/000007": "picture 1 has another size than the first: (16, 18) and (16, 16) px",
  }
  with pytest.raises(UserError, match=r"at least 1 of 8 clips in .* max_rejected_frac is 0\.1 \(first: train/000004"):
    prepare("tfds_folder", Options(root=str(directory), test_frac=0.0), tmp_path / "data")


def test_records_are_divided(tmp_path: pathlib.Path):
  """The set's own splits are taken whole; shares of the training split are exact, disjoint and hang on the seed."""
  sizes = {"train": 20, "test": 5, "extra": 3}
  parts = divide(Options(root="x", validation_frac=0.25), sizes)
  assert {split: (source, len(numbers)) for split, (source, numbers) in parts.items()} == {
    "train": ("train", 15), "validation": ("train", 5), "test": ("test", 5),
  }  # fmt: skip
  np.testing.assert_array_equal(np.sort(np.concatenate([parts["train"][1], parts["validation"][1]])), np.arange(20))
  assert (np.diff(parts["validation"][1]) > 0).all()
  again, other = (divide(Options(root="x", validation_frac=0.25, seed=seed), sizes) for seed in (0, 1))
  np.testing.assert_array_equal(again["train"][1], parts["train"][1])
  assert (other["validation"][1] != parts["validation"][1]).any()
  parts = divide(Options(root="x", train_split="test", test_split="extra", max_clips=2), sizes)
  assert {split: (source, list(numbers)) for split, (source, numbers) in parts.items()} == {
    "train": ("test", [0, 1]), "test": ("extra", [0, 1]),
  }  # fmt: skip
  assert list(divide(Options(root="x", test_frac=0.5), {"train": 1})) == ["train"]


def test_the_patch_is_gone_after_opening(tmp_path: pathlib.Path):
  """TFDS is as it was, also after an error; features of old and new directories, and Audio, are understood."""
  own = tfds.features.Video.__init__, tfds.features.Audio.__init__
  audio = {"pythonClassName": AUDIO, "audio": {"shape": {"dimensions": ["-1"]}, "dtype": "int64", "encoding": "none"}}
  features = as_dict({"sound": audio, "video": video(-1, 8, 8, 3)})
  builder = open_directory(write_directory(tmp_path / "new" / "1.0.0", features, {"train": [[]]}))
  assert builder.info.features["video"].shape == (None, 8, 8, 3)
  content = {"shape": [5, 8, 8, 1], "encoding_format": "png", "ffmpeg_extra_args": []}
  old = {"type": FEATURES_DICT, "content": {"video": {"type": VIDEO, "content": content}}}
  builder = open_directory(write_directory(tmp_path / "old" / "1.0.0", old, {"train": [[]]}))
  assert builder.info.features["video"].shape == (5, 8, 8, 1)
  bad = write_directory(tmp_path / "bad" / "1.0.0", {"type": "no.such.Feature", "content": {}}, {"train": [[]]})
  with pytest.raises(UserError, match=r"its dataset_info\.json or features\.json cannot be read \(") as caught:
    open_directory(bad)
  assert "\n" not in str(caught.value)
  assert (tfds.features.Video.__init__, tfds.features.Audio.__init__) == own


def test_the_fingerprint_follows_what_would_be_stored(tmp_path: pathlib.Path):
  """It changes with options and files, and stays when the directory is merely moved."""
  directory = ucf101(tmp_path / "a")
  first = fingerprint(Options(root=str(directory)))
  os.rename(tmp_path / "a", tmp_path / "b")
  root = str(tmp_path / "b")
  assert fingerprint(Options(root=root + "/ucf101")) == first
  seen = {first, fingerprint(Options(root=root + "/ucf101", fps=30.0))}
  os.utime(next((tmp_path / "b").rglob("*.tfrecord*")), (1, 1))
  assert len(seen | {fingerprint(Options(root=root + "/ucf101"))}) == 3


def test_folders_that_are_no_prepared_dataset_are_explained(tmp_path: pathlib.Path):
  """None, several, incomplete, too old, of another format, or with missing files."""
  directory = ucf101(tmp_path)
  assert find_directory(tmp_path / "ucf101") == directory
  with pytest.raises(UserError, match=r"there is no folder /.*/nowhere; set root"):
    find_directory(tmp_path / "nowhere")
  (tmp_path / "empty" / "incomplete.2.0.0").mkdir(parents=True)
  shutil.copy(directory / "dataset_info.json", tmp_path / "empty" / "incomplete.2.0.0")
  with pytest.raises(UserError, match=r"empty holds no dataset_info\.json; set root to a directory"):
    find_directory(tmp_path / "empty")
  shutil.copytree(directory, directory.with_name("3.0.0"))
  with pytest.raises(UserError, match=r"holds 2 prepared datasets \(ucf101_1_256/2\.0\.0, ucf101_1_256/3\.0\.0\)"):
    find_directory(tmp_path / "ucf101")
  (directory / "features.json").unlink()
  with pytest.raises(UserError, match=r"2\.0\.0 has no features\.json: TFDS before 4\.0"):
    find_directory(directory)
  other = directory.with_name("3.0.0")
  next(other.glob("*train*")).unlink()
  with pytest.raises(UserError, match=r"1 of 2 files of the split train are missing \(first: .*-of-00002\)"):
    shards(open_directory(other), "train")
  info = json.loads((other / "dataset_info.json").read_text()) | {"fileFormat": "riegeli"}
  (other / "dataset_info.json").write_text(json.dumps(info))
  with pytest.raises(UserError, match=r"is stored as riegeli; only tfrecord and array_record can be read"):
    shards(open_directory(other), "train")


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
  "video": (
    {"video_key": "vidio"},
    r'video_key = "vidio": cannot .*; did you mean "video"\? \(.* has label \(ClassLabel',
  ),
  "label": ({"label_key": "video"}, r'label_key = "video": cannot be used as that'),
  "train": (
    {"train_split": "training"},
    r'train_split = "training": .* has no such split \(it has train, test, none\)',
  ),
  "validation": ({"validation_split": "val"}, r'validation_split = "val": .* has no such split'),
  "empty": ({"train_split": "none"}, r'train_split = "none": the split has no records in '),
  "twice": ({"test_split": "train"}, r'"train": already used; leave it out to take a share'),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_fit_the_set_are_explained(case: str, tmp_path: pathlib.Path):
  """One line names the option and what the set has."""
  options, message = OPTIONS[case]
  with pytest.raises(UserError, match=message) as caught:
    fingerprint(Options(root=str(ucf101(tmp_path)), **options))
  assert "\n" not in str(caught.value)


def test_sets_without_videos_and_shares_without_rest_are_refused(tmp_path: pathlib.Path):
  """What can be said before a record is read is said then."""
  image = {"pythonClassName": IMAGE, "image": shaped(28, 28, 1)}
  directory = write_directory(tmp_path / "mnist" / "3.0.1", as_dict({"image": image, "label": LABEL}), {"train": [[]]})
  with pytest.raises(UserError, match=r"none of its features is a video .*/3\.0\.1 has image \(Image\), label"):
    open_catalogue(Options(root=str(directory)))
  with pytest.raises(UserError, match=r"validation_frac = 0\.5 and test_frac = 0\.5 must add up to less than 1"):
    Options(root="x", validation_frac=0.5, test_frac=0.5)
