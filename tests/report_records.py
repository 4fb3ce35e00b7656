"""Made-up records of runs, sweeps and ablations, for the tests of their pages and for looking at these.

python tests/report_records.py FOLDER
"""

import json
import math
import pathlib
import random
import sys

NASTY = """<script>alert(1)</script> "q" 'a' & 🎬 $x_1$"""
LONG = "a_very_long_name_" * 12
CLASSES = ("left", "right", "up", "down")


def made_run(
  folder: pathlib.Path, *, model: str = "conv_lstm", lr: float = 2e-3, seed: int = 0, top: float = 0.9
) -> pathlib.Path:
  """A finished run whose accuracy climbs to about `top`, with all records but pictures."""
  folder.mkdir(parents=True)
  draw = random.Random(f"{model} {lr} {seed}")
  reached = min(1.0, top + draw.gauss(0, 0.02))
  config = {
    "seed": seed,
    "data": {"name": "motion", "num_train": 1600},
    "model": {"name": model, **({"hidden": [24, 32]} if model == "conv_lstm" else {"depth": 4})},
    "optim": {"lr_peak": lr, "kind": "adamw"},
  }
  rows = []
  for step in range(20, 401, 20):
    share = 1 - math.exp(-step / 120) + draw.gauss(0, 0.01)
    loss = 2.1 * math.exp(-step / 150) + 0.1 + abs(draw.gauss(0, 0.03))
    row = {"step": step, "split": "train", "loss": loss}
    row |= {"top1": min(1.0, reached * share), "lr": lr * (1 - step / 420), "grad_norm": 1 + draw.random()}
    rows.append(row | {"clips_per_s": 200 + draw.gauss(0, 9), "data_wait_frac": 0.02 * draw.random()})
    if step % 80 == 0:
      rows.append({"step": step, "split": "validation", "loss": loss + 0.05, "top1": row["top1"], "num_clips": 200})
  right = round(reached * 100)
  confusion = [[right if t == p else (100 - right) // 3 for p in range(4)] for t in range(4)]
  clips = sum(map(sum, confusion))
  result = {
    "name": folder.name,
    "step": 400,
    "labels": [*CLASSES[:3], NASTY],
    "parameters": 67696,
    "train_seconds": 171.2 + seed,
    "gflop_per_clip": 0.037,
    "peak_mib": 812.0,
    "test": {"top1": 4 * right / clips, "loss": 0.2, "num_clips": clips},
    "confusion": {"test": confusion},
    "provenance": {"command": f"python -m experiments.launch --config=configs/motion_{model}.py", "device": "cpu"},
  }
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "result.json").write_text(json.dumps(result))
  (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return folder


def made_sweep(folder: pathlib.Path, trials: int = 26, *, nasty: bool = False) -> pathlib.Path:
  """A sweep whose best trials have a rate near 3e-3; every sixth failed, others pruned, the last one runs."""
  folder.mkdir(parents=True)
  space = {
    "optim.lr_peak": {"kind": "log_uniform", "low": 1e-4, "high": 3e-2, "choices": None, "when": None},
    "model.dropout": {"kind": "uniform", "low": 0.0, "high": 0.6, "choices": None, "when": None},
    "model.name": {
      "kind": "choice",
      "low": None,
      "high": None,
      "choices": ["conv_lstm", NASTY if nasty else "cnn_rnn"],
    },
    "model.depth": {"kind": "integers", "low": 1, "high": 4, "when": {"model.name": "conv_lstm"}},
    "optim.weight_decay": {"kind": "log_uniform", "low": 1e-6, "high": 1e-1},
  }
  if nasty:
    space[LONG] = {"kind": "choice", "choices": [NASTY, LONG, True, 3, [1, 2]]}
  draw = random.Random(0)
  found = [_made_trial(number, draw, trials, space, nasty) for number in range(trials)]
  importance = {"optim.lr_peak": 0.61, "model.name": 0.22, "model.dropout": 0.11, "optim.weight_decay": 0.06}
  study = {
    "name": NASTY if nasty else folder.name,
    "config": "configs/motion_convlstm.py",
    "objective": {"name": "top1", "direction": "maximize", "split": "validation"},
    "space": space,
    "trials": found,
    "importance": importance,
  }
  (folder / "study.json").write_text(json.dumps(study))
  return folder


def _made_trial(number: int, draw: random.Random, trials: int, space: dict, nasty: bool) -> dict:
  lr, dropout, decay = 10 ** draw.uniform(-4, -1.53), draw.uniform(0, 0.6), 10 ** draw.uniform(-6, -1)
  name = draw.choice(space["model.name"]["choices"])
  params = {"optim.lr_peak": lr, "model.dropout": dropout, "model.name": name, "optim.weight_decay": decay}
  if name == "conv_lstm":
    params["model.depth"] = draw.randint(1, 4)
  if nasty:
    params[LONG] = draw.choice(space[LONG]["choices"])
  reached = (
    0.96 - 0.25 * abs(math.log10(lr / 3e-3)) - 0.1 * (name != "conv_lstm") - 0.05 * dropout + draw.gauss(0, 0.01)
  )
  state = (
    "failed" if number % 6 == 5 else "running" if number == trials - 1 else "complete" if reached > 0.75 else "pruned"
  )
  steps = range(50, {"failed": 51, "pruned": 151, "running": 251, "complete": 401}[state], 50)
  curve = [[step, reached * (1 - math.exp(-step / 90))] for step in steps]
  reason = f"the loss is not finite at step 61 {NASTY if nasty else ''}".strip() if state == "failed" else ""
  overrides = " ".join(f"--config.{key}={value}" for key, value in params.items())
  return {
    "number": number,
    "state": state,
    "params": params,
    "value": curve[-1][1] if state in ("complete", "pruned") else None,
    "curve": curve,
    "seconds": 60.0 + number if state != "running" else None,
    "reason": reason,
    "run": f"trials/{number:04d}",
    "command": f"python -m experiments.launch --config=configs/motion_convlstm.py {overrides}",
  }


def made_ablation(folder: pathlib.Path, *, nasty: bool = False, seeds: int = 3) -> pathlib.Path:
  """Five variants of a ConvLSTM; one run failed, and one is not there yet."""
  name = NASTY if nasty else "frames shuffled"
  tops = {
    "baseline": 0.95,
    "one layer": 0.93,
    name: 0.32,
    LONG if nasty else "no recurrence": 0.55,
    "no augmentation": 0.95,
  }
  variants, groups = [], {}
  for i, (variant, top) in enumerate(tops.items()):
    runs = [f"runs/variant{i}/seed{seed}" for seed in range(seeds)]
    changes = {} if i == 0 else {"model.hidden": [[24, 32], [24]], "model.kind": [None, variant]}
    command = "python -m experiments.launch --config=configs/motion_convlstm.py --config.seed="
    entries = [{"run": run, "seed": seed, "command": f"{command}{seed}"} for seed, run in enumerate(runs)]
    variants.append({"name": variant, "changes": changes, "overrides": {}, "runs": entries})
    groups[f"groups/{i:02d}"] = runs
    ends = {run: {"state": "complete", "reason": ""} for run in runs}
    for seed, run in enumerate(runs):
      made_run(folder / run, seed=seed, top=top, lr=1e-3 * (i + 1))
    if i == 4 and seeds > 1:
      ends[runs[1]] = {"state": "failed", "reason": f"the loss is not finite at step 61 {NASTY if nasty else ''}"}
      del ends[runs[2]]
    (folder / "groups").mkdir(exist_ok=True)
    (folder / f"groups/{i:02d}.json").write_text(json.dumps({"runs": ends}))
  plan = {
    "name": NASTY if nasty else folder.name,
    "config": "configs/motion_convlstm.py",
    "command": "python -m experiments.ablate --config=configs/motion_convlstm.py --seeds=3",
    "overrides": {},
    "seeds": list(range(seeds)),
    "metric": "top1",
    "direction": "highest",
    "interval": "t",
    "eval_split": "validation",
    "order_seed": 0,
    "variants": variants,
    "groups": groups,
  }
  (folder / "ablation.json").write_text(json.dumps(plan))
  return folder


if __name__ == "__main__":
  target = pathlib.Path(sys.argv[1])
  made_sweep(target / "sweep")
  made_sweep(target / "nasty", nasty=True)
  made_ablation(target / "ablation")
  made_ablation(target / "nasty_ablation", nasty=True)
