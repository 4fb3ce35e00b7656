"""What a run says of itself, to all writers at once; of several processes only the first one speaks."""

import pathlib
from collections.abc import Mapping, Sequence

import jax
from rich.console import Console

from vu_jax.train.terminal import Terminal
from vu_jax.train.writers import Name, Writer, make_writers


class RunLog:
  """Opened by `begin`, once it is known from which step a run goes on."""

  def __init__(self, workdir: pathlib.Path, total_steps: int, console: Console, names: Sequence[Name]):
    self._workdir, self._total, self._console, self._names = workdir, total_steps, console, names
    self._writers: list[Writer] = []

  def begin(self, step: int, evaluated: bool) -> None:
    """Forgets the records of later steps, and, unless it is done already, of the evaluation at this one."""
    if jax.process_index() == 0:
      self._writers += make_writers(self._names, self._workdir, step, evaluated)
      self._writers.append(Terminal(self._console, self._total, step))

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Records the values of one split at one step [updates made]."""
    for writer in self._writers:
      writer.write(step, split, values)

  def say(self, text: str) -> None:
    """A line for whoever looks on."""
    if jax.process_index() == 0:
      self._console.print(text, markup=False)

  def close(self) -> None:
    while self._writers:
      self._writers.pop().close()
