"""REPORT: an ablation's page, from records made up in `report_records.py`, and the interval plots of its table."""

import pathlib

import pytest
from report_records import LONG, made_ablation
from test_report import SCRIPT, Tags

from vu_jax.report.ablation import load_ablation
from vu_jax.report.ablation_page import table_rows, write_ablation_page
from vu_jax.report.strips import Strip, scale


def test_a_scale_by_hand():
  """Values 0 to 1 and an interval up to 1.5 give a scale of -0.09 to 1.59; its ticks lie within."""
  found = scale([Strip(0.5, (0.2, 1.5), (0.0, 1.0))], "{:g}".format)
  assert found is not None
  assert (found.low, found.high) == (pytest.approx(-0.09), pytest.approx(1.59))
  assert found.at(0.75) == pytest.approx(50)
  assert [text for _, text in found.ticks] == ["0", "0.5", "1", "1.5"]


def test_a_long_interval_does_not_dwarf_the_values():
  """A t interval of two seeds may be a hundred times as long as their distance; it runs to the edge instead."""
  found = scale([Strip(0.5, (-99.0, 99.0), (0.4, 0.6))], str)
  assert found is not None
  assert found.high - found.low < 2
  assert (found.at(-99), found.at(99)) == (0, 100)


def test_scales_of_one_value_and_of_none():
  alone = scale([Strip(0.5, None, (0.5,))], str)
  assert alone is not None
  assert 0 < alone.at(0.5) < 100
  assert scale([], str) is None


def test_rows_say_the_difference_in_points(tmp_path: pathlib.Path):
  """The difference is that of the means where all seeds are there; dots are the paired differences of the seeds."""
  ablation = load_ablation(made_ablation(tmp_path / "a"))
  base, shuffled = ablation.variants[0], ablation.variants[2]
  row = table_rows(ablation)[2]
  assert base.mean is not None
  assert shuffled.mean is not None
  assert float(row.difference.replace("−", "-")) == pytest.approx(100 * (shuffled.mean - base.mean), abs=0.051)
  assert row.gap is not None
  assert row.gap.dots == tuple(shuffled.scores[seed] - base.scores[seed] for seed in (0, 1, 2))
  assert row.sure
  assert not table_rows(ablation)[1].sure


def test_the_page_shows_scores_changes_failures_and_what_is_missing(tmp_path: pathlib.Path):
  text = Tags(write_ablation_page(made_ablation(tmp_path / "a")).read_text()).text
  for words in ("frames shuffled", "the loss is not finite", "Not finished: 1 of 15 runs", "t, 3 seeds", "Holm"):
    assert words in text
  assert "model.hidden" in text
  assert "[24, 32]" in text
  assert "lowest to the highest" in text


def test_names_cannot_break_out_of_the_page(tmp_path: pathlib.Path):
  page = write_ablation_page(made_ablation(tmp_path / "a", nasty=True)).read_text()
  assert SCRIPT not in page
  assert not [tag for tag, _ in Tags(page).found if tag == "script"]
  assert LONG in page.replace("<wbr>", "")


def test_an_ablation_with_one_seed_or_no_run_has_a_page(tmp_path: pathlib.Path):
  one = Tags(write_ablation_page(made_ablation(tmp_path / "one", seeds=1)).read_text()).text
  assert "Wilson" in one
  folder = made_ablation(tmp_path / "none")
  for file in (folder / "groups").iterdir():
    file.unlink()
  assert "Not finished: 15 of 15 runs" in Tags(write_ablation_page(folder).read_text()).text
