"""Writers: every step once, however often a run was killed; and what the terminal says."""

import io
import json
import pathlib
import struct
import sys
import types
from typing import Any

import jax
import pytest
from rich.console import Console

from vu_jax.errors import UserError
from vu_jax.train.log import RunLog
from vu_jax.train.terminal import duration, verdict_on_data
from vu_jax.train.writers import TensorBoard, cut_records, make_writers


def test_records_of_later_steps_are_cut(tmp_path: pathlib.Path):
  """What is not there to come again stays byte for byte; torn and strange lines go."""
  file = tmp_path / "metrics.jsonl"
  stays = '{"step": 2, "split": "train"}\n{"step": 4, "split": "train", "loss": 1}\n'
  evaluation = '{"step": 4, "split": "validation"}\n'
  file.write_text(stays + evaluation + '[1]\n{"step": 6, "split": "train"}\n{"step": 4, "split": "train"}')
  cut_records(file, 4, evaluated=True)
  assert file.read_text() == stays + evaluation
  cut_records(file, 4, evaluated=False)
  assert file.read_text() == stays
  cut_records(file, 0, evaluated=False)
  assert file.read_text() == ""


def events(folder: pathlib.Path) -> list[Any]:
  """All TensorBoard events of a folder: records of (length, its sum, bytes, their sum)."""
  from tensorboardX.proto.event_pb2 import Event

  found = []
  for file in sorted(folder.iterdir()):
    content = file.read_bytes()
    while content:
      (size,) = struct.unpack("<Q", content[:8])
      found.append(Event.FromString(content[12 : 12 + size]))
      content = content[16 + size :]
  return found


def test_tensorboard_forgets_what_comes_again(tmp_path: pathlib.Path):
  """Figures are readable events; a run that goes on from step 4 tells TensorBoard so."""
  first = TensorBoard(tmp_path, 0)
  first.write(2, "train", {"loss": 0.5})
  first.close()
  assert [(v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value] == [("train/loss", 0.5)]
  assert not any(e.HasField("session_log") for e in events(tmp_path))
  TensorBoard(tmp_path, 4).close()
  assert [e.step for e in events(tmp_path) if e.HasField("session_log")] == [5]


def test_wandb_is_optional(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """Without the package one line says how to get it; with it, a run that is continued stays one run."""
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(UserError, match=r'names "wandb", which is not installed: pip install "vu_jax\[wandb\]"'):
    make_writers(("wandb",), tmp_path, 0, False)
  logged: list[Any] = []
  fake: Any = types.ModuleType("wandb")
  run = types.SimpleNamespace(define_metric=lambda *a, **k: None, log=logged.append, finish=lambda: None)
  fake.init = lambda **options: logged.append((options["id"], options["resume"])) or run
  monkeypatch.setitem(sys.modules, "wandb", fake)
  for _ in range(2):
    (writer,) = make_writers(("wandb",), tmp_path, 0, False)
    writer.write(3, "train", {"loss": 1.0})
    writer.close()
  first, again = logged[0::2]
  assert first == again
  assert first[1] == "allow"
  assert logged[1::2] == [{"step": 3, "train/loss": 1.0}] * 2


def test_plain_lines_where_there_is_no_terminal(tmp_path: pathlib.Path):
  """A line per report, and the verdict on the data once per change."""
  out = io.StringIO()
  log = RunLog(tmp_path, 90, Console(file=out, width=200), ("jsonl",))
  log.begin(0, evaluated=False)
  for step, wait in ((10, 0.05), (20, 0.4), (30, 0.5), (40, 0.15), (50, 0.05)):
    figures = {"loss": 1.0, "clips_per_s": 12.0, "data_wait_frac": wait, "seconds_left": 7200.0, "skipped": 0.0}
    log.write(step, "train", figures)
  log.write(50, "validation", {"top1": 0.25})
  log.close()
  lines = out.getvalue().splitlines()
  assert lines[0] == "step     10/90  train       loss 1.000  12 clips/s  wait 5%  2 h 00 min left"
  assert [line.split(":")[0] for line in lines if ":" in line] == ["decode-bound", "data keeps up"]
  assert lines[-1] == "step     50  validation  top1 0.2500"
  assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])["data_wait_frac"] == 0.4


def test_only_the_first_process_writes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  log = RunLog(tmp_path, 9, Console(file=io.StringIO()), ("jsonl", "tensorboard"))
  log.begin(0, evaluated=False)
  log.write(1, "train", {"loss": 1.0})
  log.close()
  assert list(tmp_path.iterdir()) == []


def test_verdict_does_not_flicker():
  assert verdict_on_data(0.19, False) == (False, "")
  bound, text = verdict_on_data(0.21, False)
  assert bound
  assert "waits for data 21% of the time" in text
  assert verdict_on_data(0.11, True) == (True, "")
  assert not verdict_on_data(0.09, True)[0]


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (99, "99 s"), (130, "2 min"), (11100, "3 h 05 min")])
def test_duration(seconds, text):
  assert duration(seconds) == text
