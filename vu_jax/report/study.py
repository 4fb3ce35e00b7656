"""Reads study.json, a sweep's records, for its page and its tables."""

import json
import math
import pathlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vu_jax.errors import UserError

FILE = "study.json"
State: TypeAlias = Literal["complete", "pruned", "failed", "running"]
STATES: tuple[State, ...] = ("complete", "pruned", "failed", "running")


@dataclass(frozen=True)
class Dimension:
  """One searched key: "choice" of `choices`, or "uniform", "log_uniform" or "integers" from `low` to `high`.

  `when`: values of other keys without which this one is not used.
  """

  key: str
  kind: str
  low: float | None
  high: float | None
  choices: tuple[Any, ...]
  when: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
  """One trial; `value` is None without an evaluation, and of a pruned one its last.

  curve: (step, value) of its evaluations. run: its run directory, below the sweep's. command: that repeats it alone.
  """

  number: int
  state: State
  params: Mapping[str, Any]
  value: float | None
  curve: tuple[tuple[float, float], ...]
  seconds: float | None
  reason: str
  run: str
  command: str


@dataclass(frozen=True)
class Study:
  """A sweep as far as it is done.

  metric, split: of the objective. maximise: whether more is better. planned: number of trials in the end.
  importance: key -> share of what was found to matter, 0..1; empty where too few trials are complete.
  """

  directory: pathlib.Path
  name: str
  config: str
  metric: str
  split: str
  maximise: bool
  space: tuple[Dimension, ...]
  trials: tuple[Trial, ...]
  planned: int
  importance: Mapping[str, float]

  def count(self, state: State) -> int:
    return Counter(trial.state for trial in self.trials)[state]

  def ranked(self) -> list[Trial]:
    """Complete trials, the best first; of equal ones the earlier."""
    found = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
    return sorted(found, key=lambda trial: (self.loss(trial), trial.number))

  def loss(self, trial: Trial) -> float:
    """The value turned so that less is better; infinite without one."""
    if trial.value is None:
      return math.inf
    return -trial.value if self.maximise else trial.value

  def keys(self) -> list[str]:
    """Searched keys, the one that matters most first; those of unknown importance in the order of the space."""
    return sorted((each.key for each in self.space), key=lambda key: -self.importance.get(key, 0.0))


def load_study(directory: pathlib.Path) -> Study:
  """Reads a sweep, done or not.

  Raises:
    UserError: the directory holds none, or its study.json is damaged.
  """
  path = directory / FILE
  if not path.is_file():
    raise UserError(f"{directory} holds no sweep: {FILE} is missing; give the --workdir of a sweep")
  try:
    return _study(directory, json.loads(path.read_text(encoding="utf-8")))
  except (ValueError, KeyError, TypeError) as error:
    words = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged ({error})"
    raise UserError(f"{path} {words}; the same sweep command writes it again") from None


def _study(directory: pathlib.Path, found: dict[str, Any]) -> Study:
  objective = found["objective"]
  return Study(
    directory=directory,
    name=str(found["name"]),
    config=str(found["config"]),
    metric=str(objective["name"]),
    split=str(objective["split"]),
    maximise=objective["direction"] == "maximize",
    space=tuple(_dimension(key, entry) for key, entry in found["space"].items()),
    trials=tuple(sorted(map(_trial, found["trials"]), key=lambda trial: trial.number)),
    planned=int(found.get("planned") or len(found["trials"])),
    importance={key: float(share) for key, share in (found.get("importance") or {}).items()},
  )


def _dimension(key: str, entry: dict[str, Any]) -> Dimension:
  low, high, choices = entry.get("low"), entry.get("high"), entry.get("choices") or ()
  return Dimension(key, str(entry["kind"]), low, high, tuple(choices), entry.get("when") or {})


def _trial(entry: dict[str, Any]) -> Trial:
  state = entry["state"]
  if state not in STATES:
    raise ValueError(f"trial {entry['number']} has the state {state!r}")
  curve = tuple((float(step), float(value)) for step, value in entry["curve"] if value is not None)
  value = curve[-1][1] if entry["value"] is None and state == "pruned" and curve else entry["value"]
  return Trial(
    number=int(entry["number"]),
    state=state,
    params=entry["params"],
    value=None if value is None else float(value),
    curve=curve,
    seconds=entry.get("seconds"),
    reason=str(entry.get("reason") or ""),
    run=str(entry.get("run") or ""),
    command=str(entry.get("command") or ""),
  )
