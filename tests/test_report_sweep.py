"""REPORT: a sweep's page and tables, from records made up in `report_records.py`."""

import csv
import io
import json
import math
import pathlib

import pytest
from report_records import LONG, made_sweep
from test_report import SCRIPT, Tags

from vu_jax.errors import UserError
from vu_jax.report import sweep_tables
from vu_jax.report.parallel import UNUSED, Coordinate, Line, coordinate, numeric, parallel_figure, ranks
from vu_jax.report.study import Dimension, load_study
from vu_jax.report.sweep_page import render, write_sweep_page


def dimension(kind: str, low: float = 0.0, high: float = 1.0, choices: tuple = ()) -> Dimension:
  return Dimension("model.x", kind, low, high, choices, {})


def test_places_on_axes_by_hand():
  """1e-3 is half way from 1e-4 to 1e-2; two choices lie at a quarter and three quarters; a list is one choice."""
  log = coordinate(dimension("log_uniform", 1e-4, 1e-2))
  assert log.place(1e-3) == pytest.approx(0.5)
  assert [text for _, text in log.ticks] == ["1e-4", "1e-3", "0.01"]
  assert coordinate(dimension("integers", 1, 4)).place(2) == pytest.approx(1 / 3)
  choice = coordinate(dimension("choice", choices=("a", [1, 2])))
  assert [choice.place(value) for value in ("a", [1, 2], "b", None)] == [0.25, 0.75, UNUSED, UNUSED]


def test_values_that_have_no_place_do_not_stop_the_page():
  """One value for all trials lies in the middle; infinity, and 0 on a logarithmic axis, lie nowhere."""
  assert numeric("x", 3.0, 3.0).place(3.0) == 0.5
  assert numeric("x", 1.0, 10.0, log=True).place(0.0) == UNUSED
  assert numeric("x", 0.0, 1.0).place(math.inf) == UNUSED


def test_ranks_give_the_best_the_last_colour():
  """Losses 1, 2, 2, 9 in six colours: the best 5, the worst 0, equal ones alike; a lone trial is the best."""
  assert ranks({7: 1.0, 8: 2.0, 9: 2.0, 10: 9.0}, 6) == {7: 5, 8: 2, 9: 2, 10: 0}
  assert ranks({3: 0.5}, 6) == {3: 5}
  assert ranks({}, 6) == {}


def test_every_trial_is_one_line_that_the_script_can_find():
  axes = [numeric("x", 0.0, 1.0), Coordinate("y", [], lambda value: UNUSED)]
  svg = parallel_figure(
    "p", axes, [Line("trial-0", [0.1, None], "rank0", False), Line("trial-7", [1, 2], "rank5", True)]
  )
  assert svg.count('id="p-trial-0"') == svg.count('id="p-trial-7"') == 1
  assert "var(--rank5" in svg
  assert ">not used<" in svg


def test_the_page_names_the_best_trial_its_command_and_reasons_of_failures(tmp_path: pathlib.Path):
  """What a reader comes for; the counts are those of the records."""
  folder = made_sweep(tmp_path / "s")
  study, text = load_study(folder), Tags(write_sweep_page(folder).read_text()).text
  best = max((t for t in study.trials if t.state == "complete"), key=lambda t: t.value or 0)
  for words in (f"{100 * (best.value or 0):.1f} %", "the loss is not finite at step 61", "configs/motion_convlstm.py"):
    assert words in text
  assert " ".join(best.command.split()) in " ".join(text.split())
  assert [study.count(state) for state in ("complete", "pruned", "failed", "running")] == [12, 9, 4, 1]
  assert study.ranked()[0] == best


def test_names_cannot_break_out_of_the_page(tmp_path: pathlib.Path):
  """The only script of the page is its own; attributes, figures and tables hold names as text."""
  page = write_sweep_page(made_sweep(tmp_path / "s", nasty=True)).read_text()
  tags = Tags(page)
  assert SCRIPT not in page
  assert [tag for tag, _ in tags.found].count("script") == 1
  assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
  ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
  assert len(ids) == len(set(ids))
  assert LONG in page.replace("<wbr>", "")


def test_a_sweep_without_a_complete_trial_has_a_page(tmp_path: pathlib.Path):
  """Also one of which nothing has begun; a lower loss is the better one."""
  folder = made_sweep(tmp_path / "s", trials=6)
  found = json.loads((folder / "study.json").read_text())
  found["objective"] |= {"name": "loss", "direction": "minimize"}
  (folder / "study.json").write_text(json.dumps(found))
  values = [trial.value or 0.0 for trial in load_study(folder).ranked()]
  assert values == sorted(values)
  for trial in found["trials"]:
    trial |= {"state": "running", "value": None, "curve": []}
  (folder / "study.json").write_text(json.dumps(found))
  assert "No trial is complete yet." in render(load_study(folder))
  (folder / "study.json").write_text(json.dumps(found | {"trials": [], "importance": {}}))
  assert "0 trials" in render(load_study(folder))


def test_tables_hold_what_was_recorded(tmp_path: pathlib.Path):
  """CSV has every trial in full precision; Markdown the best ten, and no cell breaks its row."""
  study = load_study(made_sweep(tmp_path / "s", nasty=True))
  rows = list(csv.DictReader(io.StringIO(sweep_tables.csv(study))))
  assert [int(row["trial"]) for row in rows] == [trial.number for trial in study.trials]
  assert [float(row["optim.lr_peak"]) for row in rows] == [trial.params["optim.lr_peak"] for trial in study.trials]
  lines = sweep_tables.markdown(study).splitlines()
  columns = lines[0].replace("\\|", "").count("|")
  assert len([line for line in lines[2:12] if line.replace("\\|", "").count("|") == columns]) >= 8


def test_damaged_records_are_one_clear_line(tmp_path: pathlib.Path):
  with pytest.raises(UserError, match="holds no sweep"):
    load_study(tmp_path)
  for text, words in (("{", "damaged"), ('{"name": "x"}', "lacks 'objective'"), ("[]", "damaged")):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(UserError, match=words):
      load_study(tmp_path)
