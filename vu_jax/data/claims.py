"""CLAIMS: who is at work on what, among all processes that prepare one dataset.

A claim is a lock on one byte of a file. The system takes it back when the process ends, however it ends, so no claim
outlives its owner; and it works between machines where their common disk knows POSIX locks (NFS does). Claims save
work, they do not keep files whole: that is what renaming does. So on a disk without locks everything stays right, and
two processes may make the same thing twice.
"""

import fcntl
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WHOLE = 1 << 30  # the claim on all of the dataset; parts are numbered from 0
_LOOK_AGAIN_S = 0.2


class Claims:
  """The claims of this process; one object per process and file, because closing a file ends all locks on it."""

  def __init__(self, file: pathlib.Path):
    file.parent.mkdir(parents=True, exist_ok=True)
    self._file = file.open("ab")
    self.respected = True  # False = this disk knows no locks

  def __enter__(self) -> "Claims":
    return self

  def __exit__(self, *error: object) -> None:
    self._file.close()

  def take(self, number: int) -> bool:
    """Whether it is ours now; False = another process is at work on it."""
    try:
      fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except (BlockingIOError, PermissionError):
      return False
    except OSError:
      self.respected = False
    return True

  def release(self, number: int) -> None:
    if self.respected:
      fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

  @contextmanager
  def held(self, number: int, waiting: Callable[[], None]) -> Iterator[None]:
    """Waits until it is ours; `waiting` is called over and over meanwhile."""
    while not self.take(number):
      waiting()
      time.sleep(_LOOK_AGAIN_S)
    try:
      yield
    finally:
      self.release(number)
