"""Where figures of a run go, each behind the same two methods."""

import importlib
import json
import pathlib
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from vu_jax.errors import UserError

Name: TypeAlias = Literal["jsonl", "tensorboard", "wandb"]
Values: TypeAlias = Mapping[str, float]


@runtime_checkable  # by the checks of signatures in the tests
class Writer(Protocol):
  """Takes the figures of one split [train, validation, ...] at one step [updates made]."""

  def write(self, step: int, split: str, values: Values) -> None: ...

  def close(self) -> None: ...


def make_writers(names: Sequence[Name], workdir: pathlib.Path, step: int, evaluated: bool) -> list[Writer]:
  """Those that a config names; a run that continues forgets what was written after its checkpoint.

  Args:
    step: the run goes on from here, 0 = it begins.
    evaluated: whether the evaluation at that step is done.

  Raises:
    UserError: a package is not installed.
  """
  made: list[Writer] = []
  for name in dict.fromkeys(names):
    match name:
      case "jsonl":
        made.append(JsonLines(workdir / "metrics.jsonl", step, evaluated))
      case "tensorboard":
        made.append(TensorBoard(workdir / "tensorboard", step))
      case "wandb":
        made.append(Wandb(workdir, step))
  return made


class JsonLines:
  """One JSON object per line: step, split, figures, time. Every step is there once, however often a run was killed."""

  def __init__(self, file: pathlib.Path, step: int, evaluated: bool):
    cut_records(file, step, evaluated)
    self._file = file.open("a", buffering=1)

  def write(self, step: int, split: str, values: Values) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
    record = {"step": step, "split": split, **{k: float(f"{v:.8g}") for k, v in values.items()}, "time": stamp}
    self._file.write(json.dumps(record) + "\n")

  def close(self) -> None:
    self._file.close()


def cut_records(file: pathlib.Path, step: int, evaluated: bool) -> None:
  """Removes what the steps to come will write again, and the line that a kill has torn.

  In place, by moving lines forward and cutting the end off, so that a full disk does no harm.
  """
  if not file.exists():
    return
  with file.open("r+b") as content:
    lines = content.readlines()
    content.seek(0)
    content.writelines(line for line in lines if _stays(line, step, evaluated))
    content.truncate()


def _stays(line: bytes, step: int, evaluated: bool) -> bool:
  try:
    record = json.loads(line)
    behind = record["step"] < step or (record["step"] == step and (evaluated or record["split"] == "train"))
  except (ValueError, KeyError, TypeError):
    return False
  return behind and line.endswith(b"\n")


class TensorBoard:
  """Event files; of a run that continues TensorBoard shows each step once, too."""

  def __init__(self, folder: pathlib.Path, step: int):
    import tensorboardX.proto.event_pb2 as proto  # here, because it imports torch where that is installed
    import tensorboardX.proto.summary_pb2 as summary
    from tensorboardX.event_file_writer import EventsWriter  # not SummaryWriter: its thread hides a full disk

    folder.mkdir(exist_ok=True)
    self._event, self._session, self._summary = proto.Event, proto.SessionLog, summary.Summary
    self._file = EventsWriter(str(folder / "events"))
    if step:  # "what follows replaces everything from this step on"
      start = self._session(status=self._session.START)
      self._file.write_event(self._event(wall_time=time.time(), step=step + 1, session_log=start))

  def write(self, step: int, split: str, values: Values) -> None:
    scalars = [self._summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
    self._file.write_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=scalars)))
    self._file.flush()

  def close(self) -> None:
    self._file.close()


class Wandb:
  """Weights & Biases; `WANDB_MODE=offline` keeps it on this machine. Curves are drawn over `step`."""

  def __init__(self, workdir: pathlib.Path, step: int):
    wandb = needed("wandb")
    note = workdir / "wandb_id.txt"
    if not note.exists():
      note.write_text(uuid.uuid4().hex[:8])
    config = json.loads((workdir / "config.json").read_text()) if (workdir / "config.json").exists() else {}
    name = workdir.resolve().name
    self._run: Any = wandb.init(
      project="vu_jax", id=note.read_text(), resume="allow", dir=str(workdir), name=name, config=config
    )
    self._run.define_metric("*", step_metric="step")
    if step:
      self._run.log({"continued": 1, "step": step})

  def write(self, step: int, split: str, values: Values) -> None:
    self._run.log({"step": step, **{f"{split}/{name}": value for name, value in values.items()}})

  def close(self) -> None:
    self._run.finish()


def needed(package: str) -> Any:
  """An optional package; raises UserError, saying how to install it, where it is missing."""
  try:
    return importlib.import_module(package)
  except ModuleNotFoundError:
    raise UserError(
      f'config.train.writers names "{package}", which is not installed: pip install "vu_jax[{package}]"'
    ) from None
