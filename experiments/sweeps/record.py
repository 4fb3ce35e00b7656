"""study.json: a sweep in words and numbers, for the report, the view, and people. Imports Optuna."""

import json
import math
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from experiments.sweeps.groups import RECORD
from experiments.sweeps.plan import Plan, planned
from experiments.sweeps.search import read_back
from experiments.sweeps.study import REASON, SECONDS, Study
from vu_jax.config import plain
from vu_jax.disk import write_text

FILE, COMMANDS = "study.json", "commands.sh"
_STATES = {
  TrialState.COMPLETE: "complete",
  TrialState.PRUNED: "pruned",
  TrialState.FAIL: "failed",
  TrialState.RUNNING: "running",
}


def write_record(study: Study) -> None:
  """Writes study.json, and the commands that run each trial again; of several writers the last one knows all."""
  plan = study.plan
  with study.groups.alone(RECORD):
    record = record_of(study)
    write_text(plan.directory / FILE, json.dumps(record, indent=1, allow_nan=False))
    write_text(plan.directory / COMMANDS, commands(record))


def record_of(study: Study) -> dict[str, Any]:
  """Numbers are finite or None; see `vu_jax/report` for what is made of it."""
  plan, trials = study.plan, study.trials()
  record: dict[str, Any] = {
    "name": plan.name,
    "config": plan.config,
    "objective": {"name": plan.objective.name, "direction": plan.objective.direction, "split": plan.objective.split},
    "space": {key: parameter.record() for key, parameter in plan.space.items()},
    "sampler": plan.sampler,
    "pruner": plan.pruner,
    "planned": planned(plan),
    "steps": plan.resolved["train"]["steps"],
    "trials": [_trial(trial, plan) for trial in trials],
  }
  if found := study.importance():
    record["importance"] = found
  return plain(record)


def _trial(trial: FrozenTrial, plan: Plan) -> dict[str, Any]:
  values = read_back(trial.params, plan)
  return {
    "number": trial.number,
    "state": _STATES[trial.state],
    "params": values,
    "value": _finite(trial.value) if trial.values else None,
    "curve": [[step, _finite(value)] for step, value in sorted(trial.intermediate_values.items())],
    "seconds": trial.user_attrs.get(SECONDS),
    "reason": trial.user_attrs.get(REASON, ""),
    "run": plan.workdir(trial.number).relative_to(plan.directory).as_posix(),
    "command": plan.command(trial.number, values),
  }


def _finite(value: float | None) -> float | None:
  return value if value is not None and math.isfinite(value) else None


def commands(record: dict[str, Any]) -> str:
  """A shell script of which one takes a line."""
  name = record["objective"]["name"]
  lines = ["# Each line runs a trial again, alone."]
  for trial in record["trials"]:
    value = "" if trial["value"] is None else f", {name} {trial['value']:.4f}"
    lines += [f"# trial {trial['number']}: {trial['state']}{value}", trial["command"]]
  return "\n".join(lines) + "\n"
