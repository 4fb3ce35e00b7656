"""Groups of trials that train together, and who is at work on them, on the disk that all workers of a sweep share.

`groups/0008.json` is a group from the moment its trials are asked for until all are told; the number is that of its
first trial. A worker holds a lock on the group's byte of one file; the system takes that back when the worker dies,
however it does. So a group without a lock is one that nobody works on: new, stopped, or of a dead worker.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from vu_jax.data.claims import WHOLE, Claims
from vu_jax.disk import write_text
from vu_jax.errors import UserError

RECORD = WHOLE + 1  # the claim on study.json


@dataclass(frozen=True)
class Group:
  """Fields:
  trials: their numbers, in the order of the members.
  step: of its newest evaluation.
  seconds: of training so far.
  """

  trials: tuple[int, ...]
  step: int = 0
  seconds: float = 0.0

  @property
  def number(self) -> int:
    return self.trials[0]


class Groups:
  """Those of one sweep; one object per process."""

  def __init__(self, directory: pathlib.Path):
    self._folder = directory / "groups"
    self._folder.mkdir(parents=True, exist_ok=True)
    self._claims = Claims(self._folder / "lock")

  @contextlib.contextmanager
  def alone(self, what: int = WHOLE) -> Iterator[None]:
    """One process at a time is in here.

    Raises:
      UserError: the disk knows no locks.
    """
    with self._claims.held(what, lambda: None):
      if not self._claims.respected:
        raise UserError(
          f"{self._folder}: this disk knows no file locks, which keep workers apart; choose another --workdir"
        )
      yield

  def take(self, group: Group) -> bool:
    """Whether it is ours now; False = another process is at work on it."""
    return self._claims.take(group.number)

  def release(self, group: Group) -> None:
    self._claims.release(group.number)

  def folder(self, group: Group) -> pathlib.Path:
    """For its checkpoints."""
    return self._folder / f"{group.number:04d}"

  def all(self) -> list[Group]:
    """Those that are not done."""
    return [group for group in map(self._read, sorted(self._folder.glob("*.json"))) if group]

  def fresh(self, group: Group) -> Group | None:
    """As it is on the disk now; None = done."""
    return self._read(self._file(group))

  def write(self, group: Group) -> None:
    write_text(self._file(group), json.dumps(dataclasses.asdict(group)))

  def remove(self, group: Group) -> None:
    """Once all of its trials are told: its checkpoints, then itself."""
    shutil.rmtree(self.folder(group), ignore_errors=True)
    self._file(group).unlink(missing_ok=True)
    self.release(group)

  def _file(self, group: Group) -> pathlib.Path:
    return self._folder / f"{group.number:04d}.json"

  def _read(self, file: pathlib.Path) -> Group | None:
    try:
      found = json.loads(file.read_text())
    except FileNotFoundError:
      return None
    return Group(**{**found, "trials": tuple(found["trials"])})
