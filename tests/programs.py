"""Runs the project's programs inside the test process, as a user would from the shell."""

import importlib
import os
import pathlib
import sys
from dataclasses import dataclass

import pytest

from experiments import cli

# The shipped main job with its numbers made small.
SMALL = {
  "data.num_train": "24",
  "data.num_validation": "10",
  "data.num_test": "18",
  "data.size_px": "32",
  "data.num_frames": "8",
  "data.lifetime_f": "4",
  "pixels.short_side": "16",
  "pixels.crop": "16",
  "loader.batch_size": "8",
  "model.stem": "((4,2),)",
  "model.hidden": "(4,)",
  "model.neck": "(8,)",
  "optim.warmup_steps": "2",
  "train.steps": "6",
  "train.eval_every_steps": "4",
  "train.checkpoint_every_steps": "2",
  "train.log_every_steps": "2",
}
MAIN_JOB = "configs/motion_convlstm.py"
SMALL_DATA = {k: v for k, v in SMALL.items() if not k.startswith("model.")}  # for other models on the same data
LONG = os.environ.get("VU_JAX_LONG") == "1"  # whether tests that take minutes run, too


@dataclass(frozen=True)
class Ended:
  """How a program ended: exit code and what it printed."""

  code: int
  out: str
  err: str


def call(program: str, *arguments: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Ended:
  """Runs `python -m experiments.<program> <arguments>` in this process."""
  monkeypatch.setattr(sys, "argv", [f"experiments/{program}.py", *arguments])
  capsys.readouterr()
  code = 0
  try:
    cli.run(importlib.import_module(f"experiments.{program}").main)
  except SystemExit as stop:
    code = int(stop.code or 0)
  said = capsys.readouterr()
  return Ended(code, said.out, said.err)


def small(config: str) -> dict[str, str]:
  """What makes a shipped config of the motion set small; the network of the main job, too."""
  if config == MAIN_JOB:
    return SMALL
  return SMALL_DATA if "/motion_" in config else {}


def job(workdir: pathlib.Path, data_dir: pathlib.Path, config: str = MAIN_JOB, **changes: str) -> list[str]:
  """Arguments of a launch, a small one on the motion set; `changes` are overrides with `__` for the dot."""
  overrides = small(config) | {k.replace("__", "."): v for k, v in changes.items()}
  return [
    f"--config={config}",
    f"--workdir={workdir}",
    f"--data_dir={data_dir}",
    *(f"--config.{k}={v}" for k, v in overrides.items()),
  ]
