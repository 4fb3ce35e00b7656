"""Being asked to stop: by Ctrl-C, or by a scheduler that wants the machine back."""

import os
import signal
import types

import jax

from vu_jax.hosts import anywhere

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: not done, nothing lost, start me again


class Interrupted(Exception):
  """The run was asked to stop, at the place that it names, and what was good is saved."""


class StopSignals:
  """Notes SIGTERM and Ctrl-C inside of a `with`; training looks at it between steps.

  The second Ctrl-C ends the program at once, as does a second SIGTERM.
  """

  NAMES = (signal.SIGTERM, signal.SIGINT)

  def __init__(self) -> None:
    self.name = ""  # of the signal that came

  def __enter__(self) -> "StopSignals":
    self._before = {number: signal.signal(number, self._note) for number in self.NAMES}
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def anywhere(self) -> bool:
    """Whether any of the hosts was asked to; all of them must call this at the same step."""
    return anywhere(bool(self.name))

  def raise_if_any(self) -> None:
    """Leaves long work whose result can be had again."""
    if self.name and jax.process_count() == 1:
      raise Interrupted("an evaluation, saved before it")

  def _note(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.name = signal.Signals(number).name
    for each in self.NAMES:
      signal.signal(each, _end_now)
    # Not print: the signal may have come in the middle of one.
    os.write(2, f"\n{self.name}: finishing the step and saving; once more to end at once\n".encode())


def _end_now(number: int, frame: types.FrameType | None) -> None:
  del frame
  if os.isatty(2):
    os.write(2, b"\x1b[?25h")  # the cursor, which the progress bar hides
  signal.signal(number, signal.SIG_DFL)
  os.kill(os.getpid(), number)
