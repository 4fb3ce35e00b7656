"""`python -m experiments.sweep`: what it refuses, what it shows, and one real sweep."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from programs import LONG, call, small
from rich.console import Console

from experiments.sweeps.devices import Share, shares
from experiments.sweeps.view import Lines, View, last_step
from vu_jax.data.parallel import available_cores

FRAMES = "configs/motion_frame_cnn.py"
LR = "--vary=optim.lr_peak=log_uniform(1e-4,1e-2)"


def typed(config: str, **changes: str) -> list[str]:
  """Overrides of a config with small numbers."""
  overrides = small(config) | {k.replace("__", "."): v for k, v in changes.items()}
  return [f"--config={config}", *(f"--config.{k}={v}" for k, v in overrides.items())]


BAD = {
  "": "--trials=N is missing: how many, such as --trials=16",
  "--trials=0": "--trials=0: must be at least 1",
  "--trials=2 --batch=0": "--batch=0: must be at least 1",
  "--trials=2 --jobs=-1": "--jobs=-1: must be at least 0",
  "--trials=2 --sampler=best": "invalid choice: 'best'",
  "--trials=2 --slurm=time=5": "is for jobs on Slurm: give --cluster=slurm too",
  "--trials=2 --cluster=slurm --slurm=5": "--slurm=5: must be KEY=VALUE",
  "--trials=2 --storage=x.db": "--storage=x.db: must be an URL",
  "--trials=2 --vary optim.lr_pek=0.1,0.2": 'config.optim.lr_pek: unknown key; did you mean "lr_peak"?',
  "--trials=2 --vary optm.lr_peak=0.1,0.2": 'config.optm: unknown section; did you mean "optim"?',
  "--trials=2 --vary task.dropout=0.1,2.0": "config.task.dropout = 2.0: must be between 0 and 1",
  "--trials=2 --vary optim.lr_peak=uniform(-1,1)": "config.optim.lr_peak = -1.0: must be",
  "--trials=2 --vary seed=1,2 --config.seed=1": "--config.seed=1: seed is varied; leave one of them out",
  "--sampler=grid --vary optim.lr_peak=uniform(0.1,1)": "has no end of values; give some",
  "--trials=2 --sampler=cmaes --vary seed=1,2": "--sampler=cmaes: varies numbers",
  "--trials=2 --jobs=0 --vary seed=1,2": "there is no sweep in",
  "--trials=2 --vary seed=1,2 --config.train.best_metric=map": "the evaluation gives no map (it gives",
}


@pytest.mark.parametrize("words", BAD)
def test_mistakes_are_one_line(words, tmp_path, capsys, monkeypatch):
  """Exit code 2, and nothing is written."""
  arguments = [f"--config={FRAMES}", f"--workdir={tmp_path / 's'}", f"--data_dir={tmp_path / 'd'}", *words.split()]
  ended = call("sweep", *arguments, capsys=capsys, monkeypatch=monkeypatch)
  (line,) = ended.err.strip().splitlines()
  assert (ended.code, line[:7]) == (2, "error: ")
  assert BAD[words] in line
  assert not (tmp_path / "s").exists()
  assert not (tmp_path / "d").exists()


def test_without_optuna_it_says_what_to_install(capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "optuna", None)
  ended = call("sweep", f"--config={FRAMES}", "--trials=2", LR, capsys=capsys, monkeypatch=monkeypatch)
  assert (ended.code, ended.err) == (2, "error: a sweep needs optuna: pip install -e '.[sweep]'\n")


def test_a_dry_run_shows_the_first_batch(tmp_path, capsys, monkeypatch):
  """Values, groups by program, and commands; nothing is written. Members with other seeds see the same batches."""
  arguments = [f"--config={FRAMES}", "--sampler=grid", "--vary=seed=1,2", "--vary=model.stages=((4,2),),((8,2),)"]
  ended = call("sweep", *arguments, "--dry_run", f"--workdir={tmp_path / 's'}", capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 0, ended.err
  lines = ended.out.splitlines()
  assert "     vary  model.stages: choice(((4, 2),), ((8, 2),))" in lines
  assert [line for line in lines if line.startswith("one program,")] == [
    "one program, 2 at once: 0, 2",
    "one program, 2 at once: 1, 3",
  ]
  (third,) = [line for line in lines if line.startswith("trial 2: ")]
  assert third.startswith(
    f"trial 2: python -m experiments.launch --config={FRAMES} --config.seed=2 '--config.model.stages=((4, 2),)' "
    "--config.loader.order_seed=0 --workdir=runs/s_0002"
  )
  assert not (tmp_path / "s").exists()


def test_a_real_sweep(tiny_motion, tmp_path, capsys, monkeypatch):
  """Two trials in one program; each leaves an ordinary run; the records say what was found; again, nothing is done."""
  data = tiny_motion.parents[2]
  small = typed(FRAMES, train__steps="2", train__eval_every_steps="1", optim__warmup_steps="1")
  arguments = [*small, f"--data_dir={data}", f"--workdir={tmp_path / 's'}", "--trials=2", "--batch=2", LR]
  ended = call("sweep", *arguments, capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 0, ended.err
  record = json.loads((tmp_path / "s" / "study.json").read_text())
  assert [t["state"] for t in record["trials"]] == ["complete"] * 2
  assert record["objective"] == {"name": "top1", "direction": "maximize", "split": "validation"}
  for trial in record["trials"]:
    run = tmp_path / "s" / trial["run"]
    config = json.loads((run / "config.json").read_text())
    result = json.loads((run / "result.json").read_text())
    assert config["optim"]["lr_peak"] == trial["params"]["optim.lr_peak"]
    assert result["validation"]["top1"] == pytest.approx(trial["value"])
    assert "test" not in result
    assert [step for step, _ in trial["curve"]] == [1, 2]
  assert f"the best again: {max(record['trials'], key=lambda t: t['value'])['command']}" in ended.out
  assert "2 of 2 done" in ended.out
  assert (tmp_path / "s" / "report.html").exists()
  again = call("sweep", *arguments, capsys=capsys, monkeypatch=monkeypatch)
  assert (again.code, "begins" in again.out) == (0, False)


@pytest.mark.skipif(not LONG, reason="takes a minute; VU_JAX_LONG=1 runs it")
def test_two_processes_and_ctrl_c(tmp_path):
  """Both work with their own cores; the launcher is interrupted, all is saved, and the same command ends the sweep."""
  small = typed(FRAMES, train__steps="60", train__eval_every_steps="30", train__checkpoint_every_steps="30")
  command = [sys.executable, "-m", "experiments.sweep", *small, f"--data_dir={tmp_path}", f"--workdir={tmp_path / 's'}"]
  command += ["--trials=4", "--batch=1", "--jobs=2", LR]
  with (tmp_path / "log").open("w") as log:
    launcher = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "s").glob("trials/*/metrics.jsonl"))) < 2:
      assert time.monotonic() < deadline
      assert launcher.poll() is None, (tmp_path / "log").read_text()
      time.sleep(0.1)
    launcher.send_signal(2)
    assert launcher.wait(60) == 75
  said = (tmp_path / "log").read_text()
  assert "the same command continues" in said
  again = subprocess.run(command, capture_output=True, text=True, check=False)
  assert again.returncode == 0, again.stderr
  record = json.loads((tmp_path / "s" / "study.json").read_text())
  assert [t["state"] for t in record["trials"]] == ["complete"] * 4
  assert "continues  from step" in "".join(p.read_text() for p in (tmp_path / "s" / "logs").iterdir())


def test_devices_are_shared_out():
  """By hand: more GPUs than workers, as many, fewer; and no GPU."""
  assert shares(2, [0, 1, 2], []) == [Share((0,)), Share((1, 2))]
  assert [s.gpus for s in shares(2, [0, 1], ["0", "1", "2", "3"])] == [("0", "1"), ("2", "3")]
  four = shares(4, [*range(8)], ["MIG-a", "MIG-b"])
  assert [(s.cores, s.gpus, s.memory_frac) for s in four] == [
    ((0, 1), ("MIG-a",), 0.45),
    ((2, 3), ("MIG-b",), 0.45),
    ((4, 5), ("MIG-a",), 0.45),
    ((6, 7), ("MIG-b",), 0.45),
  ]
  assert str(four[0]) == "2 cores, GPU MIG-a"


def test_a_share_is_what_the_process_gets(monkeypatch):
  """Cores by affinity, which the loader and XLA count; GPUs by the environment, before JAX looks."""
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
  monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "")
  before = os.sched_getaffinity(0)
  try:
    Share((min(before),), ("3",), 0.45).apply()
    assert available_cores() == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
  finally:
    os.sched_setaffinity(0, before)


def a_trial(number: int, state: str, value: float | None = None, step: int = 0) -> dict:
  return {
    "number": number,
    "state": state,
    "params": {"optim.lr_peak": 0.00123456, "model.name": "s3d"},
    "value": value,
    "curve": [[step, value]] if step else [],
    "reason": "its loss is nan" if state == "failed" else "",
    "run": f"trials/{number:04d}",
    "command": f"python -m experiments.launch {number}",
  }


def test_the_view_says_what_happens(tmp_path, capsys):
  """Done, running, failed, best and time left by hand; each trial is announced when it begins and ends."""
  objective = {"name": "loss", "direction": "minimize", "split": "validation"}
  record = {"name": "s", "objective": objective, "planned": 5, "steps": 10, "space": {}, "trials": []}

  def write(*trials: dict) -> None:
    (tmp_path / "study.json").write_text(json.dumps(record | {"trials": trials}))

  write(a_trial(0, "complete", 0.5, 10), a_trial(1, "running"))
  view = View(tmp_path)
  lines = Lines(view, Console(width=200))
  (tmp_path / "trials" / "0001").mkdir(parents=True)
  (tmp_path / "trials" / "0001" / "metrics.jsonl").write_text('{"step": 3}\n{"step": 5}\n')
  assert last_step(tmp_path / "trials" / "0001" / "metrics.jsonl") == 5
  write(a_trial(0, "complete", 0.5, 10), a_trial(1, "complete", 0.4, 10), a_trial(2, "failed"), a_trial(3, "running"))
  view.look()
  view._start = time.monotonic() - 60.0  # two trials in a minute, two are missing
  lines.say()
  said = capsys.readouterr().out.splitlines()
  counts = "3 of 5 done, 1 failed, 1 running, best validation loss 0.4000 (trial 1), about 60 s left"
  assert said == [
    f"trial   1  complete  validation loss 0.4000 after step 10; {counts}",
    f"trial   2  failed    its loss is nan; {counts}",
    "trial   3  begins    python -m experiments.launch 3",
  ]
  lines.say()
  assert capsys.readouterr().out == ""
  Console(width=100).print(view.table())
  table = capsys.readouterr().out
  assert f"s: {counts}" in table.replace("\n", " ")
  assert "3      step 0 of 10" in table
  assert "lr_peak=0.001235 name=s3d" in table
  assert SimpleNamespace(**view.ranked()[0]).number == 1
