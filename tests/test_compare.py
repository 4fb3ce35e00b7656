"""REPORT: several runs side by side, from records written by hand."""

import csv
import json
import pathlib

import numpy as np
import pytest
from programs import call
from report_records import NASTY, made_ablation, made_run, made_sweep
from test_report import SCRIPT, Tags

from vu_jax.report.compare import cells, differences, groups, main_metric, markdown, names, row
from vu_jax.report.compare_page import render
from vu_jax.report.records import Rows, load_run
from vu_jax.report.seed_curves import over_seeds


def made(folder: pathlib.Path, top1: float, width: int, lr: float, seed: int = 0) -> pathlib.Path:
  folder.mkdir(parents=True)
  config = {"model": {"name": "resnet", "width": width}, "optim": {"lr_peak": lr}, "seed": seed}
  result = {"name": folder.name, "parameters": 1234567, "gflop_per_clip": 2.5, "train_seconds": 90.2}
  result["test"] = {"top1": top1, "num_clips": 100.0}
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "result.json").write_text(json.dumps(result))
  lines = [{"split": "train", "step": s, "clips_per_s": r} for s, r in ((1, 5.0), (2, 40.0), (3, 42.0))]
  (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return folder


def test_a_row_by_hand(tmp_path: pathlib.Path):
  """Median rate 40; Wilson's interval of 80 of 100 is 71.1 to 86.7 %."""
  found = cells(row(load_run(made(tmp_path / "a", 0.8, 8, 0.1))))
  assert found == ["a", "resnet", "1,234,567", "2.5", "40", "90 s", "80.0% (71.1%-86.7%)", "test"]


def test_the_best_run_comes_first(tmp_path: pathlib.Path):
  runs = [load_run(made(tmp_path / name, top1, 8, lr)) for name, top1, lr in (("a", 0.3, 0.1), ("b", 0.9, 0.2))]
  lines = markdown(groups(runs)).splitlines()
  assert [line.split(" | ")[0] for line in lines[2:4]] == ["| b", "| a"]
  assert "| optim.lr_peak | 0.2 | 0.1 |" in lines


def test_differences_are_exact(tmp_path: pathlib.Path):
  runs = [load_run(made(tmp_path / "a", 0.3, 8, 0.1)), load_run(made(tmp_path / "b", 0.3, 16, 0.1))]
  assert differences(runs) == {"model.width": [8, 16]}


def test_runs_that_differ_by_seed_are_one_group(tmp_path: pathlib.Path):
  """0.8 and 0.9: mean 0.85, t interval 0.85 ± 12.706 * 0.05; the third run has another rate."""
  scores = ((0, 0.8), (1, 0.9))
  runs = [load_run(made(tmp_path / "x" / f"seed{seed}", top1, 8, 0.1, seed)) for seed, top1 in scores]
  two, one = groups([*runs, load_run(made(tmp_path / "y" / "seed0", 0.5, 8, 0.2))])
  assert [len(two.runs), len(one.runs)] == [2, 1]
  assert (two.mean, two.kind, one.kind) == (pytest.approx(0.85), "t", "Wilson")
  assert two.interval == pytest.approx((0.85 - 0.63531, 0.85 + 0.63531), abs=1e-4)
  assert (two.name, one.name) == ("x", "y/seed0")


def test_names_are_as_long_as_needed(tmp_path: pathlib.Path):
  runs = [load_run(made(tmp_path / a / "s0", 0.3, 8, 0.1)) for a in ("a", "b")]
  assert names(runs) == ["a/s0", "b/s0"]
  assert names(runs[:1]) == ["s0"]


def test_runs_without_accuracy_are_compared_by_loss_the_lowest_first(tmp_path: pathlib.Path):
  runs = []
  for name, loss in (("a", 0.7), ("b", 0.2)):
    folder = made(tmp_path / name, 0.0, 8, loss)
    (folder / "result.json").write_text(json.dumps({"name": name, "test": {"loss": loss}}))
    runs.append(load_run(folder))
  assert main_metric(runs) == "loss"
  assert [group.name for group in groups(runs)] == ["b", "a"]


def test_curves_over_seeds_by_hand():
  """The mean and the ends over the steps that both logged; one run has no spread, none no curve."""

  def rows(values: dict[int, float]) -> Rows:
    return tuple({"step": step, "split": "train", "loss": value} for step, value in values.items())

  (curve,) = over_seeds([rows({1: 1.0, 2: 2.0}), rows({1: 3.0, 2: 6.0, 3: 9.0})], "train", "loss", "series0", "x")
  np.testing.assert_array_equal(curve.steps, [1, 2])
  np.testing.assert_array_equal(curve.values, [2, 4])
  assert curve.spread is not None
  np.testing.assert_array_equal(curve.spread, [[1, 3], [2, 6]])
  assert over_seeds([rows({1: 1.0})], "train", "loss", "series0", "x")[0].spread is None
  assert over_seeds([rows({})], "train", "loss", "series0", "x") == []


def test_the_page_compares_and_escapes(tmp_path: pathlib.Path):
  """One row per group, all differing keys, and names as text."""
  runs = [load_run(made_run(tmp_path / f"a{seed}", seed=seed)) for seed in (0, 1)]
  runs.append(load_run(made_run(tmp_path / NASTY.replace("/", "_"), model="cnn_rnn", lr=1e-2)))
  page = render(runs)
  text = Tags(page).text
  assert SCRIPT not in page
  for words in ("3 runs", "model.hidden", "optim.lr_peak", "0, 1"):
    assert words in text
  assert "model.name" in text
  assert "data.num_train" not in text


def test_the_program_writes_tables_and_overwrites_nothing(tmp_path: pathlib.Path, monkeypatch, capsys):
  a, b = (made(tmp_path / name, top1, 8, lr) for name, top1, lr in (("a", 0.8, 0.1), ("b", 0.6, 0.2)))
  files = [f"--{kind}={tmp_path / kind}" for kind in ("html", "markdown", "csv")]
  ended = call("report", str(a), str(b), *files, capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 0
  assert "80.0%" in (tmp_path / "markdown").read_text()
  assert "Config differences" in (tmp_path / "html").read_text()
  rows = list(csv.DictReader((tmp_path / "csv").open()))
  assert [(row["run"], float(row["top1"]), row["optim.lr_peak"]) for row in rows] == [
    ("a", 0.8, "0.1"),
    ("b", 0.6, "0.2"),
  ]
  assert (a / "report.html").is_file()
  ended = call("report", str(a), files[1], capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 2
  assert "exists already" in ended.err


def test_the_program_knows_sweeps_and_ablations(tmp_path: pathlib.Path, monkeypatch, capsys):
  """Their pages are written again, in their directories; they are not compared with runs."""
  sweep, ablation = made_sweep(tmp_path / "sweep", trials=8), made_ablation(tmp_path / "ablation")
  for folder in (sweep, ablation):
    table = tmp_path / f"{folder.name}.csv"
    ended = call("report", str(folder), f"--csv={table}", capsys=capsys, monkeypatch=monkeypatch)
    assert ended.code == 0
    assert (folder / "report.html").is_file()
    assert table.read_text().count("\n") >= 6
  ended = call("report", str(sweep), str(made_run(tmp_path / "r")), capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 2
  assert "alone" in ended.err
