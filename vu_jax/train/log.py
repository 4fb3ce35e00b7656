"""What runs say of themselves, to all writers at once; of several processes only the first one speaks."""

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from rich.console import Console

from vu_jax.train.meter import Figure
from vu_jax.train.terminal import Terminal
from vu_jax.train.writers import Name, Writer, make_writers


@runtime_checkable  # by the checks of signatures in the tests
class Log(Protocol):
  """What the loop tells."""

  def begin(self, step: int, evaluated: bool) -> None:
    """Forgets the records of later steps, and, unless it is done already, of the evaluation at this one."""

  def write(self, step: int, split: str, values: Mapping[str, Figure]) -> None:
    """Records the values of one split at one step [updates made]."""

  def say(self, text: str) -> None:
    """A line for whoever looks on."""


class RunLog:
  """Of one run. Opened by `begin`, once it is known from which step the run goes on."""

  def __init__(self, workdir: pathlib.Path, total_steps: int, console: Console, names: Sequence[Name]):
    self._workdir, self._total, self._console, self._names = workdir, total_steps, console, names
    self._writers: list[Writer] = []

  def begin(self, step: int, evaluated: bool) -> None:
    if jax.process_index() == 0:
      self._writers += make_writers(self._names, self._workdir, step, evaluated)
      self._writers.append(Terminal(self._console, self._total, step))

  def write(self, step: int, split: str, values: Mapping[str, Figure]) -> None:
    for writer in self._writers:
      writer.write(step, split, {name: float(value) for name, value in values.items()})

  def say(self, text: str) -> None:
    if jax.process_index() == 0:
      self._console.print(text, markup=False)

  def close(self) -> None:
    while self._writers:
      self._writers.pop().close()


class MembersLog:
  """Of a population: each member's figures go into its own run directory, their means to the terminal.

  Clips per second are those of all members together, as it is they that the device computes.
  """

  def __init__(
    self,
    workdirs: Sequence[pathlib.Path],
    total_steps: int,
    console: Console,
    names: Sequence[Name],
    ended: Collection[int] = (),
  ):
    """`ended`: members that nothing is written of any more, but the evaluation that ended them; may grow."""
    self._workdirs, self._total, self._console, self._names = workdirs, total_steps, console, names
    self._ended = ended
    self._members: list[list[Writer]] = []
    self._terminal: Terminal | None = None

  def begin(self, step: int, evaluated: bool) -> None:
    self._members = [
      [] if i in self._ended else make_writers(self._names, workdir, step, evaluated)
      for i, workdir in enumerate(self._workdirs)
    ]
    self._terminal = Terminal(self._console, self._total, step)

  def write(self, step: int, split: str, values: Mapping[str, Figure]) -> None:
    size = len(self._workdirs)
    table = {name: np.broadcast_to(np.asarray(value, np.float64), (size,)) for name, value in values.items()}
    if "clips_per_s" in table:
      table["clips_per_s"] = table["clips_per_s"] * size
    # An evaluation may be what has ended a member.
    of = [i for i in range(size) if split != "train" or i not in self._ended]
    rows = {i: {name: float(c[i]) for name, c in table.items() if not np.isnan(c[i])} for i in of}
    for i in filter(rows.get, rows):
      for writer in self._members[i]:
        writer.write(step, split, rows[i])
    if self._terminal:
      known = {name: [row[name] for row in rows.values() if name in row] for name in table}
      self._terminal.write(step, split, {name: float(np.mean(found)) for name, found in known.items() if found})

  def say(self, text: str) -> None:
    self._console.print(text, markup=False)

  def close(self) -> None:
    for writers in self._members:
      while writers:
        writers.pop().close()
    if self._terminal:
      self._terminal.close()
      self._terminal = None
