"""REPORT: several runs side by side, from records written by hand."""

import json
import pathlib

import pytest

from experiments.report import main
from vu_jax.report.compare import cells, differences, markdown, row
from vu_jax.report.records import load_run


def made(folder: pathlib.Path, top1: float, width: int, lr: float) -> pathlib.Path:
  folder.mkdir()
  config = {"model": {"name": "resnet", "width": width}, "optim": {"lr_peak": lr}, "seed": 0}
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
  rows = [row(load_run(made(tmp_path / name, top1, 8, 0.1))) for name, top1 in (("a", 0.3), ("b", 0.9))]
  lines = markdown(rows).splitlines()
  assert [line.split(" | ")[0] for line in lines[2:]] == ["| b", "| a"]


def test_differences_are_those_outside_of_the_model(tmp_path: pathlib.Path):
  runs = [load_run(made(tmp_path / "a", 0.3, 8, 0.1)), load_run(made(tmp_path / "b", 0.3, 16, 0.2))]
  assert differences(runs) == {"optim.lr_peak": [0.1, 0.2]}


def test_the_program_writes_a_table_and_overwrites_nothing(tmp_path: pathlib.Path, monkeypatch, capsys):
  a, table = made(tmp_path / "a", 0.8, 8, 0.1), tmp_path / "table.md"
  monkeypatch.setattr("sys.argv", ["report", str(a), f"--markdown={table}"])
  main()
  assert "80.0%" in table.read_text()
  assert (a / "report.html").is_file()
  with pytest.raises(Exception, match="exists already"):
    main()
