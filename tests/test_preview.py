"""PREVIEW: the page of augmented clips says what it shows, needs nothing but itself, and replaces nothing."""

import base64
import pathlib
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from programs import SMALL, call

from experiments.preview import shares, spread
from vu_jax.errors import UserError
from vu_jax.report.preview import Row, Shown, strip, write_preview


def clip(value: int = 100) -> np.ndarray:
  return np.full((3, 16, 24, 3), value, np.uint8)


def test_a_strip_holds_the_frames_side_by_side():
  """Three frames of 16x24 px are a picture of 16x72 px, red where frame 1 is red."""
  video = clip(0)
  video[1, ..., 0] = 250
  kind, data = strip(video).split(",")
  assert kind == "data:image/jpeg;base64"
  picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
  assert picture.shape == (16, 72, 3)
  np.testing.assert_allclose(picture[8, [12, 36, 60]], [[0, 0, 0], [250, 0, 0], [0, 0, 0]], atol=12)


def test_the_page_escapes_loads_nothing_and_replaces_nothing(tmp_path: pathlib.Path):
  """Names are text, not markup; pictures are inside; a second page of the same name is refused."""
  row = Row("<b>run</b>", 'a"&<i>.mp4', [Shown(clip(), "evaluation's view"), Shown(clip(), "draw <1>")])
  target = tmp_path / "page.html"
  write_preview(target, "Augmentation of x", [("augment.policy", "rand")], [row])
  page = target.read_text()
  assert "&lt;b&gt;run&lt;/b&gt;" in page
  assert 'a"&<i>' not in page
  assert "<b>run" not in page
  assert "draw &lt;1&gt;" in page
  assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
  assert "http" not in page.replace("http-equiv", "")
  with pytest.raises(UserError, match="exists already"):
    write_preview(target, "another", [], [row])
  assert target.read_text() == page
  with pytest.raises(UserError, match="cannot be written"):
    write_preview(tmp_path / "none" / "page.html", "x", [], [row])


def test_clips_are_spread_over_classes():
  """Of labels 0 0 0 1 1 2, four clips are the first of each class and one more; of fewer clips, all."""
  records = [{"label": label} for label in (0, 0, 0, 1, 1, 2)]
  assert spread(records, 4) == [0, 1, 3, 5]  # type: ignore[arg-type]
  assert spread(records, 9) == [0, 1, 2, 3, 4, 5]  # type: ignore[arg-type]


def test_shares_are_named_largest_first():
  """What is below half a percent is not worth a word."""
  source = SimpleNamespace(label_names=["walk", "run", "jump"])
  assert shares(np.array([0.297, 0.7, 0.003]), source) == "70% run, 30% walk"  # type: ignore[arg-type]


def test_prepare_writes_the_page(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
  """By default beside the dataset; twice is refused with one line; mixing names its shares."""
  keep = {k: v for k, v in SMALL.items() if k.startswith(("data.", "pixels."))}
  common = ["--config=configs/motion_convlstm.py", f"--data_dir={tmp_path}"]
  common += [f"--config.{k}={v}" for k, v in keep.items()]

  def prepare(*arguments: str):
    return call("prepare", *common, *arguments, capsys=capsys, monkeypatch=monkeypatch)

  first = prepare("--config.augment.policy=trivial", "--preview")
  assert first.code == 0, first.err
  (page,) = tmp_path.rglob("preview.html")
  assert str(page) in first.out
  text = page.read_text()
  assert text.count("<figure>") == 8 * 6
  assert text.count("evaluation&#39;s view</figcaption>") == 8
  again = prepare("--preview")
  assert again.code == 2
  assert "exists already" in again.err
  mixed = tmp_path / "mixed.html"
  done = prepare("--config.augment.mixup_alpha=1", f"--preview={mixed}")
  assert done.code == 0, done.err
  assert re.search(r"draw 1: \d+% \w+, \d+% \w+", mixed.read_text())
  lost = prepare(f"--preview={tmp_path / 'none' / 'x.html'}")
  assert lost.code == 2
  assert "no folder" in lost.err
