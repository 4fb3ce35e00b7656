"""What is known of a group of members that are trained together: who has ended how, and who goes on."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vu_jax.disk import write_text
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero

FILE = "group.json"


@dataclass(frozen=True)
class Outcome:
  """How a member has ended.

  Fields:
    scores: its last evaluation; empty if there was none.
    step: updates made.
    reason: of a failure, one line.
  """

  state: Literal["complete", "pruned", "failed"]
  scores: Mapping[str, float]
  step: CountOrZero
  reason: str = ""


class Record:
  """Of a group; written whenever it changes.

  A group is trained in parts: each is a population, and the next one is what is left of it.
  """

  def __init__(self, folder: pathlib.Path, workdirs: Sequence[pathlib.Path]):
    """Opens or begins that of a group; raises UserError if the folder is that of another one."""
    self.folder, self._file = folder, folder / FILE
    # Beside each other they may be moved together.
    self._workdirs = [os.path.relpath(workdir, folder) for workdir in workdirs]
    self.parts: list[list[int]] = [list(range(len(workdirs)))]
    self.outcomes: dict[int, Outcome] = {}
    self.seconds = 0.0  # a running member's share of the time so far
    if not self._file.exists():
      folder.mkdir(parents=True, exist_ok=True)
      return self._write()
    found = json.loads(self._file.read_text())
    if found["members"] != self._workdirs:
      raise UserError(f"{folder} holds the checkpoints of other members ({', '.join(found['members'])}): remove it")
    self.parts, self.seconds = found["parts"], found["seconds"]
    self.outcomes = {int(i): Outcome(**outcome) for i, outcome in found["outcomes"].items()}
    return None

  @property
  def part(self) -> pathlib.Path:
    """Folder of the population that is being trained."""
    return self.folder / f"part{len(self.parts) - 1}"

  @property
  def members(self) -> list[int]:
    """Of that population, by their places in the group."""
    return self.parts[-1]

  def running(self) -> list[int]:
    """Those of them that have not ended."""
    return [i for i in self.members if i not in self.outcomes]

  def end(self, i: int, outcome: Outcome) -> None:
    self.outcomes[i] = outcome
    self._write()

  def spend(self, seconds: float) -> None:
    """Notes the time that the population has taken."""
    self.seconds += seconds / len(self.members)
    self._write()

  def next_part(self) -> pathlib.Path:
    """Where a population of the running members goes on."""
    return self.folder / f"part{len(self.parts)}"

  def shrink(self) -> None:
    """From now on the population is that of the running members."""
    self.parts.append(self.running())
    self._write()

  def _write(self) -> None:
    outcomes = {str(i): dataclasses.asdict(outcome) for i, outcome in self.outcomes.items()}
    about: dict[str, Any] = {
      "members": self._workdirs,
      "parts": self.parts,
      "outcomes": outcomes,
      "seconds": round(self.seconds, 1),
    }
    write_text(self._file, json.dumps(about, indent=1))


def should_shrink(running: Count, members: Count) -> bool:
  """A smaller program is compiled once half of the members have ended, so log2 of them at most."""
  return 0 < running <= members // 2
