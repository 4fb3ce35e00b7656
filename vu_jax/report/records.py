"""Reads the records of one run directory; any file may be missing, because a run may be stopped early."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from vu_jax.errors import UserError

Rows: TypeAlias = tuple[dict[str, Any], ...]
FINAL_SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Predictions:
  """What the trained model said about each clip of a split: N clips, Y classes."""

  ids: tuple[str, ...]
  labels: Int[np.ndarray, " N"]
  probabilities: Float[np.ndarray, "N Y"]


@dataclass(frozen=True)
class Example:
  """One clip to look at: an animated image with the model's answer."""

  id: str
  label: int
  probabilities: tuple[float, ...]
  kind: str  # "wrong" or "right"
  image: pathlib.Path


@dataclass(frozen=True)
class Evaluation:
  """The newest evaluation of a run; `final` when it is that of result.json, not one during training.

  `protocol` says in words which views of a video it took; empty where that was not recorded.
  """

  split: str
  step: int | None
  metrics: dict[str, float]
  final: bool
  protocol: str = ""


@dataclass(frozen=True)
class Run:
  """All records of one run, as they were written."""

  directory: pathlib.Path
  config: dict[str, Any]
  rows: Rows  # of metrics.jsonl, by step, each (split, step) once
  result: dict[str, Any]
  evaluation: Evaluation | None
  confusion: Int[np.ndarray, "Y Y"] | None  # clips; row = true class, column = predicted class
  predictions: Predictions | None
  examples: tuple[Example, ...]

  @property
  def name(self) -> str:
    return str(self.result.get("name") or self.directory.resolve().name)

  def label(self, index: int) -> str:
    """The name of a class, or its number where names were not recorded."""
    names = self.result.get("labels") or []
    return str(names[index]) if 0 <= index < len(names) else str(index)

  def setting(self, dotted: str) -> Any:
    """A value of the resolved config such as "model.name"; None where the config lacks it."""
    value: Any = self.config
    for part in dotted.split("."):
      value = value.get(part) if isinstance(value, dict) else None
    return value

  def series(self, split: str, key: str) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Steps and values of one logged number, in the order of steps; values may be NaN."""
    return series(self.rows, split, key)


def load_run(run_dir: pathlib.Path) -> Run:
  """Reads whatever records the run directory holds.

  Raises:
    UserError: the directory holds no record at all, or config.json, result.json or examples.json is damaged.
  """
  names = ("config.json", "metrics.jsonl", "result.json")
  if not any((run_dir / name).is_file() for name in names):
    raise UserError(f"{run_dir} holds no run: none of {', '.join(names)} is there; give the --workdir of a run")
  result = read_json(run_dir / "result.json", {})
  rows = read_rows(run_dir / "metrics.jsonl")
  evaluation = _newest_evaluation(result, rows)
  split = evaluation.split if evaluation and evaluation.final else "test"
  return Run(
    directory=run_dir,
    config=read_json(run_dir / "config.json", {}),
    rows=rows,
    result=result,
    evaluation=evaluation,
    confusion=_square(result.get("confusion", {}).get(split)),
    predictions=read_predictions(run_dir / f"predictions_{split}.jsonl"),
    examples=_read_examples(run_dir / "examples"),
  )


def read_rows(path: pathlib.Path) -> Rows:
  """Reads metrics.jsonl in the order of steps; of lines with the same split and step the later one counts.

  A step repeats when a run resumes from a checkpoint older than its last line. A line that was torn when the
  process was killed is passed over.
  """
  newest = {
    (row["split"], row["step"]): row
    for row in _json_lines(path)
    if isinstance(row.get("split"), str) and _is_number(row.get("step"))
  }
  return tuple(sorted(newest.values(), key=lambda row: row["step"]))


def series(rows: Rows, split: str, key: str) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
  """Steps and values of one logged number, in the order of the rows; values may be NaN."""
  pairs = [(row["step"], row[key]) for row in rows if row["split"] == split and _is_number(row.get(key))]
  steps, values = np.array(pairs, np.float64).reshape(-1, 2).T
  return steps, values


def read_predictions(path: pathlib.Path) -> Predictions | None:
  """Reads one line per clip; None without any. A clip that was written twice counts once, as written last."""
  rows = {row["id"]: row for row in _json_lines(path) if {"id", "label", "probabilities"} <= row.keys()}
  if not rows:
    return None
  return Predictions(
    ids=tuple(str(clip) for clip in rows),
    labels=np.array([row["label"] for row in rows.values()], np.int64),
    probabilities=np.array([row["probabilities"] for row in rows.values()], np.float64),
  )


def _read_examples(folder: pathlib.Path) -> tuple[Example, ...]:
  listed = read_json(folder / "examples.json", [])
  examples = [
    Example(
      id=str(entry["id"]),
      label=int(entry["label"]),
      probabilities=tuple(map(float, entry["probabilities"])),
      kind=str(entry["kind"]),
      image=folder / pathlib.Path(entry["file"]).name,
    )
    for entry in listed
  ]
  return tuple(example for example in examples if example.image.is_file())


def _newest_evaluation(result: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Evaluation | None:
  for split in FINAL_SPLITS:
    if isinstance(result.get(split), dict):
      protocol = result.get("protocol", "")
      words = protocol.get(split, "") if isinstance(protocol, dict) else protocol  # older runs: one for all splits
      return Evaluation(split, result.get("step"), _numbers(result[split]), final=True, protocol=str(words))
  evaluations = [row for row in rows if row["split"] != "train"]
  if not evaluations:
    return None
  return Evaluation(evaluations[-1]["split"], evaluations[-1]["step"], _numbers(evaluations[-1]), final=False)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
  return {key: float(value) for key, value in row.items() if key != "step" and _is_number(value)}


def _square(counts: Any) -> Int[np.ndarray, "Y Y"] | None:
  table = np.array(counts if counts else [], np.int64)
  return table if table.ndim == 2 and table.shape[0] == table.shape[1] else None


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _json_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  if not path.is_file():
    return
  with path.open(encoding="utf-8", errors="replace") as lines:
    for line in lines:
      try:
        row = json.loads(line)
      except json.JSONDecodeError:
        continue
      if isinstance(row, dict):
        yield row


def read_json(path: pathlib.Path, missing: Any, mend: str = "or write it again by resuming the run") -> Any:
  """What a file holds, or `missing` without one; raises UserError, saying how to `mend` it, if it is damaged."""
  if not path.is_file():
    return missing
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise UserError(f"{path} is not valid JSON ({error}); delete it, {mend}") from None
