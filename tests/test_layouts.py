"""Known datasets in their official layouts: what is listed, what is stored, what is said of faulty lists."""

import csv
import json
import pathlib
import typing
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vu_jax.data.builders.video_folder import Options, fingerprint
from vu_jax.data.listing import layouts
from vu_jax.data.listing.division import check_groups
from vu_jax.data.listing.folders import Box, Clip
from vu_jax.data.listing.layouts.hmdb51 import source_of
from vu_jax.data.listing.selection import Layout, list_clips
from vu_jax.data.prepare import prepare, read_facts
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.transcode import encode_video
from vu_jax.errors import UserError

TAIL = "u_nm_np1_ba_goo"
TINY_VIDEO = encode_video(np.full((4, 16, 24, 3), 90, np.uint8), 10.0).video


def put(root: pathlib.Path, *names: str, content: bytes = TINY_VIDEO) -> None:
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def write(file: pathlib.Path, *lines: str) -> None:
  file.parent.mkdir(parents=True, exist_ok=True)
  file.write_text("".join(f"{line}\r\n" for line in lines))


def ucf101(root: pathlib.Path) -> None:
  """Two classes, groups 1 to 3 of two clips; split N tests group N. One name is written as officially: HandStand."""
  lists = root / "ucfTrainTestlist"
  write(lists / "classInd.txt", "1 Archery", "2 HandstandPushups", "3 YoYo")
  names = [
    f"{label}/v_{label.replace('stand', 'Stand')}_g{group:02d}_c{n:02d}.avi"
    for label in ("Archery", "HandstandPushups")
    for group in (1, 2, 3)
    for n in (1, 2)
  ]
  put(root / "UCF-101", *names)
  for split in (1, 2, 3):
    tested = [name for name in names if f"_g{split:02d}" in name]
    train = [f"{name} {1 + name.startswith('H')}" for name in names if name not in tested]
    write(lists / f"trainlist{split:02d}.txt", *train)
    write(lists / f"testlist{split:02d}.txt", *tested)


def coded(root: pathlib.Path, lists: str, videos: str) -> None:
  """Two classes, sources A to C of two clips; split N tests source N; one clip is in neither."""
  for label in ("brush_hair", "run"):
    names = [f"{source}_{label}_{TAIL}_{n}.avi" for source in "ABC" for n in range(2)]
    put(root / videos / label, *names)
    for split in (1, 2, 3):
      codes = [2 if name[0] == "ABC"[split - 1] else 1 for name in names]
      codes[-1] = 0 if split == 1 and label == "run" else codes[-1]
      write(root / lists / f"{label}_test_split{split}.txt", *(f"{n} {c} " for n, c in zip(names, codes, strict=True)))


def hmdb51(root: pathlib.Path) -> None:
  coded(root, "testTrainMulti_7030_splits", ".")


def jhmdb(root: pathlib.Path) -> None:
  coded(root, "splits", "ReCompress_Videos")


HEAD = "label,youtube_id,time_start,time_end,split"


def kinetics(root: pathlib.Path) -> None:
  """Trimmed clips with and without folders, a whole video, a replaced one, missing ones, a test list without labels."""
  rows = ["air drumming,-3B32lodo2M,59,69,train,0", "air drumming,gone0000000,1,11,train,0"]
  rows += ["yoga,whole000000,0,1,train,0", "yoga,broken00000,3,13,train,0", "zumba,gone1111111,3,13,train,0"]
  write(root / "annotations" / "train.csv", f"{HEAD},is_cc", *rows, rows[0])
  write(
    root / "annotations" / "val.csv", HEAD, '"air drumming",_bcJuKJQNs_,40,50,validate', "yoga,v1234567890,0,10,val"
  )
  write(root / "annotations" / "test.csv", HEAD.removeprefix("label,"), "t1234567890,0,10,test")
  write(root / "labels.csv", "id,name", "0,yoga")
  put(root, "train/air drumming/-3B32lodo2M_000059_000069.mp4", "val/_bcJuKJQNs__000040_000050.mp4")
  put(root, "train/whole000000.mkv", "v1234567890_000000_000010.mp4")
  put(root, "train/broken00000_000003_000013.mp4", content=b"broken")
  put(root, "zz/replacement_for_corrupted_k400/broken00000_000003_000013.mp4")


def something_something(root: pathlib.Path) -> None:
  """Three training clips, one of validation, one of test with an answer; two templates."""
  classes = ["Holding something next to something", "Putting something, something on the table"]
  templates = ["Holding [something] next to [something]", "Putting [something], [something] on the table"]
  entries = [{"id": str(n), "label": "x", "template": templates[n % 2], "placeholders": []} for n in range(4)]
  for name, content in {
    "train": entries[:3],
    "validation": entries[3:],
    "test": [{"id": "4"}],
    "labels": {label: str(n) for n, label in enumerate(classes)},
  }.items():
    write(root / "labels" / f"{name}.json", json.dumps(content))
  write(root / "labels" / "test-answers.csv", f"4;{classes[1]}")
  put(root / "20bn-something-something-v2", *(f"{n}.webm" for n in range(5)))


def activitynet(root: pathlib.Path) -> None:
  """Videos of training (a repeated segment, one beyond the end), validation and test; one is missing."""
  segments = [([0.0, 0.2], "Surfing"), ([0.2, 9.0], "Surfing"), ([0.2, 9.0], "Surfing"), ([0.4, 0.5], "Yoga")]
  annotations = [{"segment": segment, "label": label} for segment, label in segments]
  videos = {
    "a0000000000": {"duration": 0.4, "subset": "training", "annotations": annotations},
    "b0000000000": {"duration": 0.4, "subset": "validation", "annotations": annotations[:1]},
    "c0000000000": {"duration": 0.4, "subset": "training", "annotations": [{"segment": [0, 0.4], "label": "Yoga"}]},
    "d0000000000": {"duration": 0.4, "subset": "testing", "annotations": []},
  }
  nodes = [{"nodeName": name} for name in ("Root", "Sport", "Surfing", "Yoga")]
  write(root / "activity_net.v1-3.min.json", json.dumps({"database": videos, "taxonomy": nodes}))
  put(root, "v1-2/v_a0000000000.mkv", "b0000000000.mp4")


AVA_VIDEO = encode_video(np.full((40, 16, 24, 3), 90, np.uint8), 10.0).video
AVA_TRAIN = (
  "a0000000000,0902,0.100,0.200,0.500,0.900,12,0",
  "a0000000000,0902,0.100,0.200,0.500,0.900,80,0",
  "a0000000000,0902,0.600,0.200,0.800,1.000,12,1",
  "a0000000000,0902,0.600,0.200,0.800,1.000,2,1",  # not in the list
  "a0000000000,0903,0.100,0.200,0.500,0.900,1,0",
  "a0000000000,0904,0.100,0.200,0.500,0.900,12,0",  # excluded
  "b0000000000,0905,0.100,0.200,0.500,0.900,12,0",  # gone
  "b0000000000,0906,0.100,0.200,0.500,0.900,2,0",  # nothing that is in the list
)


def ava(root: pathlib.Path) -> None:
  """One movie of each split, one that is gone; three listed actions."""
  actions = {1: "bend/bow (at the waist)", 12: "stand", 80: "watch (a person)"}
  items = [f'item {{\n  name: "{name}"\n  id: {number}\n}}' for number, name in actions.items()]
  write(root / "ava_v2.2" / "ava_action_list_v2.2_for_activitynet_2019.pbtxt", *items)
  write(root / "ava_v2.2" / "ava_train_v2.2.csv", *AVA_TRAIN)
  write(root / "ava_v2.2" / "ava_val_v2.2.csv", "c0000000000,0902,0.000,0.000,1.000,1.000,12,7")
  write(root / "ava_v2.2" / "ava_train_excluded_timestamps_v2.2.csv", "a0000000000,0904")
  write(root / "ava_v2.2" / "ava_val_excluded_timestamps_v2.2.csv", "c0000000000,0999")
  put(root, "videos_15min/a0000000000.mkv", "videos_15min/c0000000000.mp4", content=AVA_VIDEO)


MAKERS: dict[str, Callable[[pathlib.Path], None]] = {
  "ucf101": ucf101,
  "hmdb51": hmdb51,
  "jhmdb": jhmdb,
  "kinetics": kinetics,
  "something_something": something_something,
  "activitynet": activitynet,
  "ava": ava,
}


def made(name: str, root: pathlib.Path) -> Options:
  MAKERS[name](root)
  return Options(root=str(root), layout=typing.cast(Any, name))


def numbers(clips: list[Clip]) -> dict[str, int]:
  return dict(Counter(clip.split for clip in clips))


def test_every_layout_can_be_named():
  """The files of the folder, the values of the option and the tests here are the same."""
  files = {f.stem for f in pathlib.Path(layouts.__file__).parent.glob("*.py") if not f.stem.startswith("_")}
  assert files | {"folders"} == set(typing.get_args(Layout))
  assert files == set(MAKERS)


@pytest.mark.parametrize(("name", "counts"), [("ucf101", {"train": 8, "test": 4}), ("jhmdb", {"train": 7, "test": 4})])
def test_a_known_dataset_is_prepared(name: str, counts: dict[str, int], tmp_path: pathlib.Path):
  """From official lists to stored clips: splits, labels and ids; another split is another dataset."""
  options = made(name, tmp_path / "set")
  folder = prepare("video_folder", options, tmp_path / "data")
  facts = read_facts(folder)
  assert {split: about["clips"] for split, about in facts["splits"].items()} == counts
  assert facts["labels"] == {"ucf101": ["Archery", "HandstandPushups"], "jhmdb": ["brush_hair", "run"]}[name]
  assert facts["rejected"] == []
  assert len({fingerprint(replace(options, split=split)) for split in (1, 2, 3)}) == 3
  assert fingerprint(options) == folder.parent.name


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "jhmdb"])
@pytest.mark.parametrize("split", [1, 2, 3])
def test_numbered_splits(name: str, split: int, tmp_path: pathlib.Path):
  """Split N tests source N; ids are paths below the root; validation is taken from training, source by source."""
  options = replace(made(name, tmp_path), split=split)
  clips = list_clips(options)
  assert all(clip.path == tmp_path / clip.id and clip.path.is_file() for clip in clips)
  tested = {clip.group[-1] for clip in clips if clip.split == "test"}
  assert tested == {str(split) if name == "ucf101" else "ABC"[split - 1]}
  assert len(clips) == 12 - (split == 1 and name != "ucf101")
  held_out = list_clips(replace(options, validation_frac=0.5))
  assert numbers(held_out)["test"] == 4
  assert numbers(held_out)["validation"] >= 2
  check_groups([replace(clip, group=clip.label + clip.group) for clip in held_out], name)


def test_a_class_is_named_as_in_the_list(tmp_path: pathlib.Path):
  """HandstandPushups holds v_HandStandPushups_*; videos may also lie in the root itself."""
  clips = list_clips(made("ucf101", tmp_path))
  last = clips[-1]
  assert (last.label, last.group) == ("HandstandPushups", "HandStandPushups_g01")
  assert last.id == "UCF-101/HandstandPushups/v_HandStandPushups_g01_c02.avi"
  for clip in clips:
    clip.path.rename(tmp_path / f"{clip.path.stem}.mp4")
  assert list_clips(made_flat := Options(root=str(tmp_path), layout="ucf101"))[-1].id == f"{last.path.stem}.mp4"
  assert {clip.label for clip in list_clips(made_flat)} == {"Archery", "HandstandPushups"}


def test_jhmdb_as_a_table(tmp_path: pathlib.Path):
  """The one table says the same as the lists, and gives the same dataset as when its columns are named."""
  put(tmp_path, *(f"run/{source}_{n}.mp4" for source in "AB" for n in range(2)))
  rows = [f"run/{s}_{n}.mp4,run,{s},{'test' if s == 'B' else 'train'},train,train" for s in "AB" for n in range(2)]
  write(tmp_path / "jhmdb_splits.csv", "clip,label,source_video,split1,split2,split3", *rows)
  options = Options(root=str(tmp_path), layout="jhmdb")
  assert [(clip.split, clip.group) for clip in list_clips(options)] == [("train", "A")] * 2 + [("test", "B")] * 2
  named = Options(root=str(tmp_path), csv="jhmdb_splits.csv", path_column="clip", split_column="split1")
  assert fingerprint(options) == fingerprint(named)


def test_kinetics_lists_trimmed_and_whole_videos(tmp_path: pathlib.Path):
  """Names with times are clips, whole videos give their part, replacements win, and what is gone is kept listed."""
  clips = list_clips(made("kinetics", tmp_path))
  assert numbers(clips) == {"train": 5, "validation": 2}
  by_group = {clip.group: clip for clip in clips}
  assert by_group["-3B32lodo2M"].id == "train/air drumming/-3B32lodo2M_000059_000069.mp4"
  whole = by_group["whole000000"]
  assert (whole.id, whole.start_s, whole.end_s) == ("train/whole000000.mkv#0-1", 0.0, 1.0)
  assert "replacement" in by_group["broken00000"].id
  assert by_group["gone0000000"].id == "gone0000000_000001_000011.mp4"
  assert by_group["_bcJuKJQNs_"].label == "air drumming"


@pytest.mark.parametrize(
  ("name", "lost", "labels", "stored"),
  [
    ("kinetics", 2, ["air drumming", "yoga", "zumba"], {"train": 3, "validation": 2}),
    ("activitynet", 1, ["Surfing", "Yoga"], {"train": 2, "validation": 1}),
    ("ava", 1, ["bend/bow (at the waist)", "stand", "watch (a person)"], {"train": 2, "validation": 1}),
  ],
)
def test_videos_that_are_gone_are_counted(
  name: str, lost: int, labels: list[str], stored: dict[str, int], tmp_path: pathlib.Path
):
  """Missing files stop nothing, though they are more than max_rejected_frac; their classes stay; they are reported."""
  options = replace(made(name, tmp_path / "set"), max_rejected_frac=0.0)
  calls: list[tuple[int, int]] = []
  facts = read_facts(prepare("video_folder", options, tmp_path / "data", lambda *counts: calls.append(counts)))
  assert [item["reason"] for item in facts["rejected"]] == ["there is no such file"] * lost
  assert facts["labels"] == labels
  assert {split: about["clips"] for split, about in facts["splits"].items()} == stored
  assert calls[-1] == (sum(stored.values()) + lost,) * 2


def test_something_something_takes_templates_as_classes(tmp_path: pathlib.Path):
  """Brackets go; test clips have their answers; without answers there is no test split."""
  options = made("something_something", tmp_path)
  clips = list_clips(options)
  assert numbers(clips) == {"train": 3, "validation": 1, "test": 1}
  assert clips[0].label == "Holding something next to something"
  assert (clips[-1].label, clips[-1].id) == (
    "Putting something, something on the table",
    "20bn-something-something-v2/4.webm",
  )
  (tmp_path / "labels" / "test-answers.csv").unlink()
  (tmp_path / "labels").rename(tmp_path / "annotations")
  for file in (tmp_path / "annotations").glob("*.json"):
    file.rename(file.with_name(f"something-something-v2-{file.name}"))
  assert list_clips(options) == clips[:-1]


def test_activitynet_segments_are_clips(tmp_path: pathlib.Path):
  """Segments are cut at the end of the video, empty ones left out, repeated ones counted once."""
  clips = list_clips(made("activitynet", tmp_path))
  assert [(clip.group[0], clip.label, clip.start_s, clip.end_s, clip.split) for clip in clips] == [
    ("a", "Surfing", 0.0, 0.2, "train"),
    ("a", "Surfing", 0.2, 0.4, "train"),
    ("b", "Surfing", 0.0, 0.2, "validation"),
    ("c", "Yoga", 0.0, 0.4, "train"),
  ]
  assert [clip.id for clip in clips[1:3]] == ["v1-2/v_a0000000000.mkv#0.2-0.4", "b0000000000.mp4#0-0.2"]


def test_ava_clips_are_moments_with_boxes(tmp_path: pathlib.Path):
  """Three seconds around a moment; a box per person with all listed actions; what is not listed or excluded is gone."""
  first, second, gone, held_out = list_clips(made("ava", tmp_path))
  assert first.id == "videos_15min/a0000000000.mkv#0.5-3.5"
  assert (first.label, first.split, first.group) == ("stand", "train", "a0000000000")
  assert first.boxes == (
    Box(2.0, (0.1, 0.2, 0.5, 0.9), ("stand", "watch (a person)"), 0),
    Box(2.0, (0.6, 0.2, 0.8, 1.0), ("stand",), 1),
  )
  assert (second.label, second.start_s, second.end_s) == ("bend/bow (at the waist)", 1.5, 4.5)
  assert (gone.id, gone.boxes[0].time_s) == ("b0000000000.mp4#903.5-906.5", 905.0)
  assert (held_out.split, held_out.boxes[0].person) == ("validation", 7)
  (tmp_path / "videos_15min").rename(tmp_path / "movies")  # whole ones
  assert list_clips(made_whole := Options(root=str(tmp_path), layout="ava"))[0].boxes[0].time_s == 902.0
  actions = tmp_path / "ava_v2.2" / "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
  text = actions.read_text().replace("item", "label").replace("  id:", "  label_type: PERSON_MOVEMENT\n  label_id:")
  (tmp_path / "ava_v2.2" / "ava_action_list_v2.2.pbtxt").write_text(text + 'label { name: "crawl" label_id: 2 }')
  actions.unlink()
  assert [clip.boxes[-1].labels for clip in list_clips(made_whole)[::3]] == [("stand", "crawl"), ("crawl",)]


def test_boxes_are_stored_with_their_clip(tmp_path: pathlib.Path):
  """Corners, moments since the clip's first frame, labels as ones in the order of the classes, persons."""
  options = replace(made("ava", tmp_path / "set"), max_rejected_frac=0.0)
  source = PreparedSource(prepare("video_folder", options, tmp_path / "data"), "train")
  examples = {example["id"]: example for example in map(source.__getitem__, range(len(source)))}
  found = examples["videos_15min/a0000000000.mkv#0.5-3.5"]
  np.testing.assert_allclose(found["boxes"], [[0.1, 0.2, 0.5, 0.9], [0.6, 0.2, 0.8, 1.0]], atol=1e-6)
  np.testing.assert_allclose(found["box_times_s"], [1.5, 1.5], atol=1e-6)
  assert found["box_labels"].tolist() == [[0, 1, 1], [0, 1, 0]]
  assert found["box_persons"].tolist() == [0, 1]
  assert (int(found["label"]), int(found["num_frames"])) == (1, 30)
  lists = tmp_path / "set" / "ava_v2.2" / "ava_train_v2.2.csv"
  before = fingerprint(options)
  lists.write_text(lists.read_text().replace("0.600", "0.601"))
  assert fingerprint(options) != before


def edit(name: str, old: str, new: str) -> Callable[[pathlib.Path], None]:
  def change(root: pathlib.Path) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new, 1))

  return change


def remove(pattern: str) -> Callable[[pathlib.Path], None]:
  def change(root: pathlib.Path) -> None:
    for file in list(root.rglob(pattern)):
      file.unlink()

  return change


AVA, AVA_ACTIONS = "ava_v2.2/ava_train_v2.2.csv", "ava_v2.2/ava_action_list_v2.2_for_activitynet_2019.pbtxt"
AVA_EXCLUDED = "ava_v2.2/ava_train_excluded_timestamps_v2.2.csv"
UCF, HMDB, KIN = "ucfTrainTestlist", "testTrainMulti_7030_splits/run_test_split1.txt", "annotations/train.csv"
ANET, SSV2 = "activity_net.v1-3.min.json", "labels/train.json"
FAULTS: list[tuple[str, Callable[[pathlib.Path], None], str]] = [
  ("ucf101", remove("classInd.txt"), r"no classInd.txt in /.* or its folders ucf.*; put the lists of UCF"),
  ("ucf101", remove("trainlist01.txt"), r"split=1: there is no .*trainlist01.txt \(there is trainlist02.txt,"),
  ("ucf101", remove("*.avi"), r"none of the 12 videos of .*trainlist01.txt is below .*\(first: Archery/v_Arch"),
  ("ucf101", edit(f"{UCF}/classInd.txt", "1 Archery", "Archery 1"), r"classInd.txt line 1 is 'Archery 1'; it must"),
  ("ucf101", edit(f"{UCF}/classInd.txt", "3 YoYo", "2 YoYo"), r"classInd.txt line 3 repeats a number or a class"),
  ("ucf101", edit(f"{UCF}/classInd.txt", "1 Archery", "1 Bowling"), r"list01.txt line 1 has the class 'Archery'"),
  ("ucf101", edit(f"{UCF}/trainlist01.txt", "avi 1", "avi 2"), r"line 1 says 2 for Archery, but classInd.txt 1; mend"),
  ("ucf101", edit(f"{UCF}/trainlist01.txt", ".avi 1", ".avi"), r"line 1 is .*; it must be CLASS/v_CLASS_g01_c01.avi"),
  ("ucf101", edit(f"{UCF}/testlist01.txt", "g01_c02", "g02_c02"), r"line 2 repeats .*trainlist01.txt line 2"),
  ("ucf101", edit(f"{UCF}/testlist01.txt", "_g01", ""), r"testlist01.txt line 1 is '.*'; it must be CLASS/v_CLASS"),
  ("hmdb51", remove("*_test_split?.txt"), r"no \*_test_split\*.txt in .*; put the lists of HMDB51 there"),
  ("hmdb51", remove("*_test_split1.txt"), r"split=1: .* has no \*_test_split1.txt \(it has splits 2, 3\)"),
  ("hmdb51", edit(HMDB, ".avi 2", ".avi 3"), r"run_test_split1.txt line 1 is '.*avi 3'; it must be a video and 1 \(tr"),
  ("hmdb51", edit(HMDB, ".avi 2", ".avi"), r"run_test_split1.txt line 1 is '.*avi'; it must be a video and 1"),
  ("hmdb51", edit(HMDB, "goo_0", "goo_1"), r"run_test_split1.txt line 2 repeats .*line 1, run/A_run"),
  ("jhmdb", remove("*.txt"), r"no CLASS_test_split1.txt in .*splits and no .*jhmdb_splits.csv; put one of them there"),
  ("jhmdb", edit("splits/run_test_split1.txt", ".avi 2", ".avi 1"), r"group 'run/A' is in two splits"),
  ("kinetics", remove("*.csv"), r"no CSV in .* or its folder annotations has the columns label, youtube_id"),
  ("kinetics", edit(KIN, "youtube_id", "video_id"), r"train.csv has no column 'youtube_id'; .*; rename 'video_id'"),
  ("kinetics", edit(KIN, "59,69,train", "59,69,dev"), r"train.csv line 2 has the unknown split 'dev'; write train"),
  ("kinetics", edit(KIN, "59,69", "69,59"), r"line 2: time_start '69' and time_end '59' must be seconds"),
  ("kinetics", edit(KIN, "59,69", "x,69"), r"line 2: time_start 'x' and time_end '69' must be seconds"),
  ("kinetics", edit(KIN, "air drumming", ""), r"line 2 has no youtube_id or no label"),
  ("kinetics", edit(KIN, "air drumming", "yoga"), r"train.csv line 7 gives .* another label or split than .*line 2;"),
  ("kinetics", remove("*.m*"), r"none of the 7 videos of the lists of Kinetics is below"),
  ("something_something", remove("train.json"), r"no \*train.json in .*; put the lists of Something"),
  ("something_something", remove("labels.json"), r"there is no file .*labels.json; put the official one there"),
  ("something_something", edit(SSV2, "[{", "{"), r"train.json is not JSON in UTF-8 \(.*line 1 column"),
  ("something_something", edit(SSV2, "Holding", "Folding"), r"train.json entry 1 \(id 0\) has the class 'Folding some"),
  ("something_something", edit(SSV2, '"template"', '"t"'), r"train.json entry 1 \(id 0\) has no template"),
  ("something_something", edit(SSV2, '"id": "1"', '"id": "0"'), r"train.json entry 2 repeats .* entry 1"),
  ("something_something", edit(SSV2, '"id": "1"', '"i": "0"'), r"train.json entry 2 has no id"),
  ("something_something", edit("labels/test-answers.csv", "4;", "5;"), r"answers.csv line 1 is .* an id of test.json"),
  ("something_something", remove("*.webm"), r"none of the 5 videos of .*train.json is below"),
  ("activitynet", remove("*.json"), r"no activity_net\*.json in .*; put the database of ActivityNet there"),
  ("activitynet", edit(ANET, '"database"', '"data"'), r"min.json has no database; fetch the official file"),
  ("activitynet", edit(ANET, "training", "train"), r"min.json video a0000000000 has no subset training"),
  ("activitynet", edit(ANET, '"Surfing"', '"Surf"'), r"video a0000000000 has the class 'Surf', which is not in"),
  ("activitynet", edit(ANET, "[0.0, 0.2]", "[0.0]"), r"a0000000000 annotation 1 needs a label and a segment \[start"),
  ("activitynet", edit(ANET, "[0.0, 0.2]", "[0.3, 0.2]"), r"annotation 1 ends at 0.2 s, before its start at 0.3 s"),
  ("activitynet", remove("*000.m*"), r"none of the 4 videos of .*min.json is below"),
  ("ava", remove("ava_train_v2.2.csv"), r"no ava_train_v2.2.csv in .*; put the lists of AVA there"),
  ("ava", remove("ava_val_v2.2.csv"), r"there is no file .*ava_val_v2.2.csv; put the official one there"),
  ("ava", remove("*val_excluded*"), r"there is no file .*ava_val_excluded_timestamps_v2.2.csv; put the official one"),
  ("ava", remove("*.pbtxt"), r"there is no file .*activitynet_2019.pbtxt; put the official one there"),
  ("ava", edit(AVA_ACTIONS, "id: 80", "id: 1"), r"pbtxt has the item \{ name: \"watch \(a person\)\" id: 1 \}; each"),
  ("ava", edit(AVA, "0.100", "1.100"), r"train_v2.2.csv line 1 is 'a00.*,1.100.*'; it must be VIDEO,SECOND,"),
  ("ava", edit(AVA, "0.500,0.900", "0.050,0.900"), r"line 1 is .*with a box in 0\.\.1"),
  ("ava", edit(AVA, ",12,0", ",12"), r"train_v2.2.csv line 1 is .*; it must be VIDEO,SECOND,LEFT"),
  ("ava", edit(AVA, "0902", "9:02"), r"train_v2.2.csv line 1 is 'a0000000000,9:02,.*'; it must be VIDEO,SECOND,LEFT"),
  ("ava", edit(AVA_EXCLUDED, ",0904", ""), r"timestamps_v2.2.csv line 1 is 'a0000000000'; it must be VIDEO,SECOND, s"),
  ("ava", edit(AVA, "b0000000000", "c0000000000"), r"ava_v2.2: group 'c0000000000' is in two splits, train"),
  ("ava", remove("*000.m*"), r"none of the 4 videos of .*ava_\*_v2.2.csv is below"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), FAULTS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(FAULTS)])
def test_faulty_lists_are_explained_in_one_line(
  name: str, change: Callable[[pathlib.Path], None], message: str, tmp_path: pathlib.Path
):
  """What is wrong is said with file, line and cure, before any video is opened."""
  options = made(name, tmp_path)
  change(tmp_path)
  with pytest.raises(UserError, match=message) as caught:
    fingerprint(options)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["kinetics", "something_something", "activitynet", "ava"])
def test_one_official_division(name: str, tmp_path: pathlib.Path):
  """Sets with one division refuse other split numbers, and a second validation split."""
  options = made(name, tmp_path)
  with pytest.raises(UserError, match=r"split=2: \S+ has one official division; leave split out"):
    list_clips(replace(options, split=2))
  with pytest.raises(UserError, match="has a validation split of its own; leave out validation_frac"):
    list_clips(replace(options, validation_frac=0.1))


OPTIONS: list[tuple[dict[str, Any], str]] = [
  ({"layout": "ucf101", "csv": "t.csv"}, r"csv='t.csv': layout=\"ucf101\" has its own lists and splits; leave csv out"),
  ({"layout": "ucf101", "folds": 3}, r"folds=3: layout=\"ucf101\" has its own lists"),
  ({"split": 2}, r"split=2: layout=\"folders\" has no numbered splits"),
  ({"group_column": "actor"}, r"group_column='actor' needs a csv; for folders set group_pattern"),
  ({"group_column": "a", "group_pattern": "b", "csv": "t.csv"}, r"group_column and group_pattern are both set"),
  ({"folds": 2, "leave_out": "A", "group_pattern": "(.)"}, r"folds and leave_out are both set; leave one"),
  ({"fold": 2}, r"fold=2 needs folds"),
  ({"csv": "t.csv", "folds": 2}, r"t.csv says the splits itself, so folds .*set split_column=\"\""),
  ({"csv": "t.csv", "group_column": "person"}, r"t.csv has no column 'person'; .*; set group_column"),
  ({"csv": "t.csv", "split_column": "side"}, r"no column 'side'; .*set split_column \(\"\" = divide the clips by"),
  ({"csv": "t.csv", "group_column": "who"}, r"t.csv: group 'A' is in two splits, train \(a/A0.mp4\) and test"),
]  # fmt: skip


def people(root: pathlib.Path) -> None:
  """Two classes, three persons, two clips each; a table whose split column mixes the persons."""
  names = [f"{label}/{person}{n}.mp4" for label in "ab" for person in "ABC" for n in range(2)]
  put(root, *names, content=b"")
  rows = [f"{name},{name[0]},{'train' if '0' in name else 'test'},{name[2]}" for name in names]
  write(root / "t.csv", "path,label,split,who", *rows)


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=range(len(OPTIONS)))
def test_options_that_contradict_are_refused(options: dict[str, Any], message: str, tmp_path: pathlib.Path):
  """No option is silently ignored."""
  people(tmp_path)
  with pytest.raises(UserError, match=message) as caught:
    fingerprint(Options(root=str(tmp_path), **options))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "source", [{"group_pattern": "/([A-C])"}, {"csv": "t.csv", "split_column": "", "group_column": "who"}]
)
def test_persons_are_kept_apart(source: dict[str, Any], tmp_path: pathlib.Path):
  """By fractions, by folds and by leaving one out, from folders and from a table; each is another dataset."""
  people(tmp_path)
  options = Options(root=str(tmp_path), **source)
  variants = [options, *(replace(options, folds=3, fold=n) for n in (1, 2, 3)), replace(options, leave_out="B")]
  tested = []
  for variant in variants:
    clips = list_clips(variant)
    check_groups(clips, "")
    tested.append({clip.group for clip in clips if clip.split == "test"})
  assert [len(persons) for persons in tested] == [1] * 5
  assert set.union(*tested[1:4]) == {"A", "B", "C"}
  assert tested[4] == {"B"}
  assert len({fingerprint(variant) for variant in variants}) == 3  # three persons, so three ways to test one


@pytest.mark.parametrize(("split", "counts"), [(1, (660, 268)), (2, (658, 270)), (3, (663, 265))])
def test_the_splits_of_the_real_jhmdb(split: int, counts: tuple[int, int], shared_data: pathlib.Path):
  """As published; within a class no source video is on both sides; names of clips tell the source."""
  clips = list_clips(Options(root=str(shared_data / "jhmdb"), layout="jhmdb", split=split))
  assert (numbers(clips)["train"], numbers(clips)["test"]) == counts
  assert len({clip.label for clip in clips}) == 21
  sides = defaultdict(set)
  for clip in clips:
    sides[clip.label, clip.group].add(clip.split)
    assert clip.path.is_file()
    assert source_of(clip.path.stem, clip.label) == clip.group
  assert all(len(found) == 1 for found in sides.values())


def test_the_table_of_the_real_jhmdb_gives_the_same(shared_data: pathlib.Path):
  """Clips and order are those of the table itself, so that prepared datasets are found again."""
  root = shared_data / "jhmdb"
  with (root / "jhmdb_splits.csv").open() as file:
    rows = [(row["clip"], row["label"], row["split2"]) for row in csv.DictReader(file)]
  clips = list_clips(Options(root=str(root), layout="jhmdb", split=2))
  assert [(clip.id, clip.label, clip.split) for clip in clips] == rows
