"""REPORT: statistics by hand, torn or missing records, and a page that needs nothing but itself."""

import base64
import html.parser
import json
import math
import pathlib
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vu_jax.errors import UserError
from vu_jax.report import curves, figures, headline, statistics
from vu_jax.report.page import notices, write_report
from vu_jax.report.records import load_run, read_rows

SCRIPT = "<script>alert(1)</script>"
# Rows are true classes: 8 of 10 clips of class 0 are right, 3 of 4 of class 1, and class 2 has no clip.
COUNTS = np.array([[8, 1, 1], [1, 3, 0], [0, 0, 0]])


def train_line(step: int, **values: float) -> dict:
  return {"step": step, "split": "train", "loss": 1.0, "top1": 0.5, "lr": 1e-3, "clips_per_s": 70.0, **values}


def write_lines(path: pathlib.Path, lines: list[dict], tail: str = "") -> None:
  path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)


def started_run(folder: pathlib.Path) -> pathlib.Path:
  """A run that was killed while it trained: a config and some metrics."""
  folder.mkdir(exist_ok=True)
  config = {"seed": 7, "data": {"name": "motion", "root": SCRIPT}, "model": {"name": "conv_lstm"}}
  (folder / "config.json").write_text(json.dumps(config))
  write_lines(folder / "metrics.jsonl", [train_line(step, loss=2 / step) for step in range(1, 40)])
  return folder


def finished_run(folder: pathlib.Path) -> pathlib.Path:
  """A run with every record, whose labels and ids try to break out of the page."""
  started_run(folder)
  labels = [SCRIPT, "$a_b$ & \"c\" 'd'", 'onload="x"']
  result = {
    "name": "tiny_run",
    "step": 40,
    "parameters": 1234,
    "train_seconds": 170.2,
    "labels": labels,
    "test": {"loss": 0.5, "top1": 11 / 14, "top5": 1.0, "mean_per_class": 0.775, "num_clips": 14},
    "confusion": {"test": COUNTS.tolist()},
    "provenance": {"command": "python -m x", "versions": {"jax": "0.10.2"}, "link": "http://example.org/a"},
  }
  (folder / "result.json").write_text(json.dumps(result))
  line = {"id": f"{SCRIPT}/0.mp4", "label": 0, "probabilities": [0.1, 0.7, 0.2]}
  write_lines(folder / "predictions_test.jsonl", [{**line, "id": str(i)} for i in range(3)])
  (folder / "examples").mkdir()
  frames = [Image.new("RGB", (8, 8), (40 * i, 90, 120)) for i in range(3)]
  frames[0].save(folder / "examples" / "000.webp", save_all=True, append_images=frames[1:], duration=80, loop=0)
  examples = [{**line, "file": "000.webp", "kind": "wrong"}, {**line, "file": "gone.webp", "kind": "wrong"}]
  (folder / "examples" / "examples.json").write_text(json.dumps(examples))
  return folder


class Tags(html.parser.HTMLParser):
  """Collects the tags of a page with their attributes, and the visible text."""

  def __init__(self, page: str):
    super().__init__()
    self.found: list[tuple[str, dict[str, str]]] = []
    self.text = ""
    self.feed(page)

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
    self.found.append((tag, {name: value or "" for name, value in attrs}))

  def handle_data(self, data: str) -> None:
    self.text += data


def test_wilson_interval_by_hand():
  """8 of 10: (0.8 + 0.19207 ± 1.96 sqrt(0.016 + 0.0096036)) / 1.38415 = 0.4902 .. 0.9433."""
  low, high = statistics.wilson_interval(8, 10)
  assert low == pytest.approx(0.4902, abs=2e-4)
  assert high == pytest.approx(0.9433, abs=2e-4)
  assert statistics.wilson_interval(0, 0) == (0.0, 1.0)


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_interval_contains_the_proportion(n: int, share: float):
  """The interval lies within 0..1, holds the proportion, and is never a point, even if all are right."""
  right = round(share * n)
  low, high = statistics.wilson_interval(right, n)
  assert 0 <= low <= right / n + 1e-12
  assert right / n - 1e-12 <= high <= 1
  assert high - low > 0


def test_per_class_scores_by_hand():
  """Recall divides by the row, precision by the column, F1 by half of both; what has no clips is NaN."""
  first, second, third = statistics.per_class(COUNTS)
  assert (first.support, first.recall, first.precision) == (10, 0.8, pytest.approx(8 / 9))
  assert first.f1 == pytest.approx(16 / 19)
  assert first.recall_interval == statistics.wilson_interval(8, 10)
  assert (second.support, second.recall, second.precision) == (4, 0.75, 0.75)
  assert third.support == 0
  assert math.isnan(third.recall)
  assert (third.precision, third.f1) == (0.0, 0.0)


def test_most_confused_puts_the_larger_share_first_among_equal_counts():
  """One clip of four is a worse mistake than one of ten; right answers and zeros are no mistakes."""
  pairs = statistics.most_confused(COUNTS, 10)
  assert [(pair.true, pair.predicted, pair.count) for pair in pairs] == [(1, 0, 1), (0, 1, 1), (0, 2, 1)]
  assert pairs[0].share == 0.25
  assert len(statistics.most_confused(COUNTS, 2)) == 2


def test_calibration_error_by_hand():
  """Two clips at 0.95, one of them right; two at 0.6, both right: (2 * 0.45 + 2 * 0.4) / 4 = 0.425."""
  probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.4, 0.6], [0.4, 0.6]])
  bins, error = statistics.calibration(probabilities, np.array([0, 1, 1, 1]), num_bins=10)
  assert error == pytest.approx(0.425)
  assert [(one.count, one.right) for one in bins if one.count] == [(2, 2), (2, 1)]
  assert bins[9].confidence == pytest.approx(0.95)
  assert bins[5].high == 0.6  # the upper end of a bin belongs to it
  assert bins[5].count == 2


def test_smoothing_is_centred_and_leaves_out_what_is_not_finite():
  """The mean of three neighbours; NaN stays NaN and does not spread; the ends use what neighbours exist."""
  smoothed = statistics.smooth(np.array([0.0, 3.0, 6.0, np.nan, 2.0]), 1)
  np.testing.assert_allclose(smoothed, [1.5, 3.0, 4.5, np.nan, 2.0])


def test_the_later_line_of_a_step_counts(tmp_path: pathlib.Path):
  """After a resume steps repeat: the curve must be that of the run that went on, in the order of steps."""
  lines = [train_line(step, loss=loss) for step, loss in ((50, 3.0), (100, 2.0), (150, 9.0), (100, 1.0), (200, 0.5))]
  evaluation = {"step": 100, "split": "validation", "loss": 4.0}
  write_lines(tmp_path / "metrics.jsonl", [*lines, evaluation])
  rows = read_rows(tmp_path / "metrics.jsonl")
  assert [(row["step"], row["loss"]) for row in rows if row["split"] == "train"] == [
    (50, 3.0),
    (100, 1.0),
    (150, 9.0),
    (200, 0.5),
  ]
  assert evaluation in rows


def test_a_torn_line_is_passed_over(tmp_path: pathlib.Path):
  """A process killed while writing must not cost other lines, also when a resumed run wrote on after it."""
  write_lines(tmp_path / "metrics.jsonl", [train_line(1), train_line(2)], tail='{"step": 3, "split": "tr')
  assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write(json.dumps(train_line(3)) + "\n" + json.dumps(train_line(4)) + "\n")
  assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 4]


def test_labels_and_ids_cannot_break_out_of_the_page(tmp_path: pathlib.Path):
  """What the data is called is shown as text, in the page and in its figures, and never becomes markup."""
  page = write_report(finished_run(tmp_path / "run")).read_text()
  tags = Tags(page)
  assert SCRIPT not in page
  assert page.replace("<wbr>", "").count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
  assert not [tag for tag, _ in tags.found if tag == "script"]
  assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
  matrix = page[page.index("Confusion matrix of") :]
  assert ">$a_b$ &amp;" in matrix[: matrix.index("</svg>")]  # text, not mathematics


def test_the_page_needs_nothing_from_outside(tmp_path: pathlib.Path):
  """No address in src, href or url(), and example clips are inside the page, byte for byte."""
  run = finished_run(tmp_path / "run")
  page = write_report(run).read_text()
  tags = Tags(page)
  references = [a[key] for _, a in tags.found for key in ("src", "href", "xlink:href", "srcset") if key in a]
  references += re.findall(r"url\(([^)]*)\)", page)
  assert references
  assert all(reference.startswith(("#", "data:")) for reference in references)
  assert not [tag for tag, _ in tags.found if tag in ("link", "iframe", "object", "embed")]
  images = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
  assert len(images) == 1  # the second example's file is gone
  kind, data = images[0].split(",")
  assert kind == "data:image/webp;base64"
  assert base64.b64decode(data) == (run / "examples" / "000.webp").read_bytes()


def test_ids_of_several_figures_do_not_clash(tmp_path: pathlib.Path):
  """An id that occurs twice would let one figure clip or mark another one's curves."""
  tags = Tags(write_report(finished_run(tmp_path / "run")).read_text()).found
  ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
  assert len(ids) == len(set(ids))
  targets = [a[key][1:] for _, a in tags for key in ("href", "xlink:href") if a.get(key, "").startswith("#")]
  assert set(targets) <= set(ids)


def test_the_page_states_the_headline_numbers(tmp_path: pathlib.Path):
  """11 of 14 right is 78.6 % with the Wilson interval 52.4 to 92.4 %; the run and its data are named."""
  text = Tags(write_report(finished_run(tmp_path / "run")).read_text()).text
  shown = ("tiny_run", "conv_lstm on motion", "78.6", "52.4–92.4 %", "11 of 14", "2 min 50 s", "jax 0.10.2")
  assert [words for words in shown if words not in text] == []
  assert notices(load_run(tmp_path / "run")) == []


def test_a_run_without_evaluation_gives_a_page_that_says_so(tmp_path: pathlib.Path):
  """A run stopped early has curves, a config and one sentence on the missing evaluation; no empty section."""
  page = write_report(started_run(tmp_path / "run")).read_text()
  text, headings = Tags(page).text, re.findall(r"<h2>(.*?)</h2>", page)
  assert "no final evaluation yet: its records reach step 39." in text
  assert headings == ["Training", "Config"]


def test_the_newest_check_during_training_stands_in_for_a_missing_evaluation(tmp_path: pathlib.Path):
  """Until the run is evaluated its last validation is the score, and is called so."""
  run = started_run(tmp_path / "run")
  with (run / "metrics.jsonl").open("a") as file:
    file.write(json.dumps({"step": 20, "split": "validation", "top1": 0.25, "num_clips": 8}) + "\n")
  assert "those of the validation split at step 20" in notices(load_run(run))[0]
  score = headline.score(load_run(run).evaluation)
  assert score == headline.Score(0.25, 2, 8, statistics.wilson_interval(2, 8))


def test_a_loss_that_stops_being_finite_is_said(tmp_path: pathlib.Path):
  """A run that diverged must not look like one whose curve just ends."""
  run = started_run(tmp_path / "run")
  write_lines(run / "metrics.jsonl", [train_line(1), train_line(2, loss=math.nan), train_line(3, loss=math.nan)])
  assert notices(load_run(run))[-1] == "The training loss stopped being a finite number at step 2."
  assert write_report(run).is_file()


def test_many_classes_have_no_counts_in_the_matrix():
  """Counts are readable up to 25 classes; a matrix of hundreds stays small and has no labels."""
  few = figures.confusion_figure(np.eye(25, dtype=np.int64) * 777, [f"c{y}" for y in range(25)])
  many = figures.confusion_figure(np.eye(26, dtype=np.int64) * 777, [f"c{y}" for y in range(26)])
  hundreds = figures.confusion_figure(np.eye(400, dtype=np.int64) * 777, [f"c{y}" for y in range(400)])
  assert (few.count(">777<"), many.count(">777<")) == (25, 0)
  assert (few.count(">c3<"), hundreds.count(">c3<")) == (2, 0)
  assert len(hundreds) < 50_000


def test_figures_take_their_colours_from_the_page_and_leave_settings_alone():
  """Dark mode needs colours that are not fixed; drawing must not change the user's matplotlib settings."""
  before = dict(matplotlib.rcParams)
  steps = np.arange(50.0)
  svg = curves.curves_figure("loss", "Loss", [curves.Curve("train", steps, 1 / (1 + steps), noisy=True)])
  assert "var(--train" in svg
  assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", svg)) == set()
  assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
  ("value", "text"), [(0.0, "0"), (0.5, "0.5"), (3e-4, "3e-4"), (2.5e-5, "2.5e-5"), (250.0, "250")]
)
def test_tick_labels_are_short(value: float, text: str):
  """A learning rate reads 3e-4, not 0.0003."""
  assert curves.tick_text(value) == text


def test_summary_table_lists_scores_and_costs(tmp_path: pathlib.Path):
  """What a program prints at its end names the split, the interval and the cost."""
  table = headline.summary_table(finished_run(tmp_path / "run"))
  rows = dict(zip(*(list(column.cells) for column in table.columns), strict=True))
  assert rows["test top-1 accuracy"] == "78.6 %  (95 %: 52.4–92.4 %, 14 clips)"
  assert rows["parameters"] == "1,234"
  assert rows["clips per second"] == "70.0"


def test_a_folder_without_records_or_with_damaged_ones_is_the_users_mistake(tmp_path: pathlib.Path):
  """One line that names the folder or the file and says how to go on."""
  with pytest.raises(UserError, match="holds no run"):
    write_report(tmp_path)
  (tmp_path / "result.json").write_text("{")
  with pytest.raises(UserError, match=r"result\.json is not valid JSON") as error:
    write_report(tmp_path)
  assert "\n" not in str(error.value)
