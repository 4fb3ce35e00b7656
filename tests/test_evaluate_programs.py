"""EVAL in the programs: views, their protocol beside the figures, and damaged clips in a whole run."""

import json
import pathlib
from functools import partial

import numpy as np
import pytest
from programs import Ended, call, job

from vu_jax.data.source import PreparedSource

CONFIG = "configs/motion_frame_cnn.py"  # compiles in half the time of a recurrent network


@pytest.fixture
def program(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> partial[Ended]:
  return partial(call, capsys=capsys, monkeypatch=monkeypatch)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return tmp_path_factory.mktemp("data")


def test_views_and_their_protocol(program, tmp_path, data_dir, monkeypatch):
  """A run in 2x3 views of 18 videos; again in one view, and in logits; three damaged clips are named on the page.

  Batches of 8 hold two clips each of four classes.
  """
  stored = PreparedSource.__getitem__

  def damaged(source: PreparedSource, index: int) -> dict:
    broken = len(source) == 24 and index in (3, 4, 9)
    return stored(source, index) | ({"video": b"junk"} if broken else {})

  monkeypatch.setattr(PreparedSource, "__getitem__", damaged)
  run_dir = tmp_path / "run"
  changes = {"eval__clips": "2", "eval__crops": "3", "pixels__short_side": "20", "loader__max_bad_frac": "0.2"}
  changes |= {"loader__order": "classes_by_clips", "loader__clips_per_class": "2", "train__steps": "9"}
  ended = program("launch", *job(run_dir, data_dir, CONFIG, model__stages="((4,2),)", **changes))
  assert ended.code == 0, ended.err
  assert "2x3 views" in " ".join(ended.out.split())
  result = json.loads((run_dir / "result.json").read_text())
  assert result["test"]["num_clips"] == np.sum(result["confusion"]["test"]) == 18
  assert 0 <= result["test"]["top1_one_view"] <= 1
  words = "2x3 views, probabilities averaged, dense clips, newest checkpoint"
  assert result["protocol"] == {"test": words}
  page = (run_dir / "report.html").read_text()
  assert words in page
  rows = [json.loads(line) for line in (run_dir / "quarantine.jsonl").read_text().splitlines()]
  assert {row["index"] for row in rows} <= {3, 4, 9}
  assert result["unreadable_clips"] == len(rows) > 0
  assert f"{len(rows)} training clips could not be read" in page
  labels = next(data_dir.rglob("labels_train.npy"))
  assert np.bincount(np.load(labels)).tolist() == [3] * 8

  assert program("evaluate", f"--run={run_dir}", "--views=1x1").code == 0
  again = json.loads((run_dir / "result.json").read_text())
  assert again["protocol"]["test"].startswith("one dense clip per video, in the middle")
  assert program("evaluate", f"--run={run_dir}", "--split=validation", "--average=logits").code == 0
  both = json.loads((run_dir / "result.json").read_text())["protocol"]
  assert both["validation"].startswith("2x3 views, logits averaged")
  assert both["test"] == again["protocol"]["test"]
  for wrong, named in (("--views=10", "such as 10x3"), ("--views=2x2", "crops"), ("--average=mode", "average")):
    ended = program("evaluate", f"--run={run_dir}", wrong)
    assert ended.code == 2
    assert named in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"loader__order": "classes"}, ["config.loader.order", "classes_by_clips"]),
    ({"loader__order": "classes_by_clips", "loader__clips_per_class": "3"}, ["clips_per_class = 3", "batch_size = 8"]),
    ({"loader__subset_per_class": "4"}, ["subset_per_class = 4", "only 3 training clips"]),
    ({"loader__subset_frac": "0"}, ["config.loader.subset_frac = 0"]),
    ({"clip__sampling": "rate"}, ["config.clip", "rate_hz"]),
    ({"eval__crops": "2"}, ["config.eval.crops = 2"]),
    ({"eval__clip": "2"}, ["config.eval.clip", '"clips"']),
  ],
)
def test_bad_values_are_one_line(changes, named, program, tmp_path, data_dir):
  """Orders, subsets, clips and views that cannot be had."""
  ended = program("launch", *job(tmp_path / "run", data_dir, **changes))
  assert ended.code == 2
  assert len(ended.err.strip().splitlines()) == 1, ended.err
  for text in named:
    assert text in ended.err
  assert not (tmp_path / "run").exists()
