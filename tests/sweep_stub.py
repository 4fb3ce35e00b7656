"""Stands in for training in the tests of sweeps.

`train_stub` keeps the promises of `experiments.groups.train.train_group`: a checkpoint before each evaluation, an
evaluation is told again if its outcome was not written, and a group that was killed goes on where it was. It notes what
it trains.
"""

import functools
import json
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from experiments.groups.record import Outcome
from experiments.sweeps import study
from experiments.sweeps.plan import Objective, Plan
from experiments.sweeps.search import quiet
from vu_jax.errors import UserError
from vu_jax.search import Space, choice, log_uniform, text_of, uniform

STEPS = (1, 2, 3)
TRAIN = {"steps": 3, "eval_every_steps": 1, "eval_split": "validation"}
SPACE: Space = {
  "lr": log_uniform(1e-5, 1e-1),
  "net": choice("wide", "deep"),
  "drop": uniform(0.0, 0.5, when={"net": "deep"}),
}


def plan(directory: pathlib.Path, **changes: Any) -> Plan:
  """A sweep of 16 trials over `SPACE`, four at a time; "wide" and "deep" are different programs."""
  given: dict[str, Any] = {
    "config": "configs/x.py",
    "overrides": {},
    "resolved": {"seed": 0, "train": TRAIN, "loader": {"order_seed": -1}},
    "space": SPACE,
    "objective": Objective("top1", "maximize", "validation"),
    "trials": 16,
    "batch": 4,
    "sampler": "tpe",
    "pruner": "halving",
    "directory": directory,
    "data_dir": directory,
  }
  directory.mkdir(parents=True, exist_ok=True)
  if not (directory / study.DATABASE).exists():
    (directory / study.DATABASE).write_bytes(empty_database())
  return Plan(**given | changes)


@functools.cache
def empty_database() -> bytes:
  """Its tables take half a second to make."""
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / study.DATABASE
    with quiet():
      study.optuna.storages.RDBStorage(f"sqlite:///{file}").engine.dispose()
    return file.read_bytes()


def experiment(self: Plan, values: Mapping[str, Any]) -> Any:
  """In place of `Plan.experiment`: values that do not go together are those with net = "broken"."""
  if values.get("net") == "broken":
    raise UserError("config.net = 'broken': cannot be built")
  return SimpleNamespace(train=SimpleNamespace(**TRAIN), values=dict(values))


def grouped(experiments: Sequence[Any], size: int) -> list[list[int]]:
  """In place of `members.grouped`."""
  found: dict[str, list[int]] = {}
  for i, each in enumerate(experiments):
    found.setdefault(text_of(each.values.get("net", "")), []).append(i)
  return [same[start : start + size] for same in found.values() for start in range(0, len(same), size)]


def top1(values: Mapping[str, Any], step: int) -> float:
  """Best at lr = 1e-3, without drop; grows with the steps."""
  return 1 - 0.1 * (math.log10(values.get("lr", 1e-3)) + 3) ** 2 - values.get("drop", 0.0) + 0.01 * step


def train_stub(
  log: pathlib.Path, pause_s: float = 0.0, score: Callable[..., float] = top1
) -> Callable[..., list[Outcome]]:
  """What to put in place of `train_group`; each line of the log is a trial and a step that it was trained to."""

  def train(
    members: Sequence[Any],
    folder: pathlib.Path,
    data_dir: pathlib.Path,
    screen: Any,
    on_scores: Callable,
    vary: Sequence[str],
    split: str,
  ) -> list[Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "state.json"
    state: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"step": 0, "evaluated": 0, "ended": {}}

    def save() -> None:
      scratch = file.with_suffix(".tmp")
      scratch.write_text(json.dumps(state))
      scratch.replace(file)

    for step in STEPS:
      running = [i for i in range(len(members)) if str(i) not in state["ended"]]
      if step > state["step"] and running:
        time.sleep(pause_s)
        with log.open("a") as lines:
          lines.write("".join(f"{members[i].workdir.name} {step}\n" for i in running))
        state["step"] = step
        save()
      if step > state["evaluated"] and running:
        scores = {i: {"top1": score(members[i].experiment.values, step)} for i in running}
        ended = on_scores(step, scores)
        state["ended"] |= {str(i): step for i in ended}
        state["evaluated"] = step
        save()
    return [
      Outcome("pruned", {}, state["ended"][str(i)])
      if str(i) in state["ended"]
      else Outcome("complete", {"top1": score(each.experiment.values, STEPS[-1])}, STEPS[-1])
      for i, each in enumerate(members)
    ]

  return train
