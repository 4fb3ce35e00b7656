"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Count = Callable[[int, int], None]  # called with (done, total)
_EVERY_S = 60.0


@contextlib.contextmanager
def progress_bar(screen: Console, what: str, unit: str) -> Iterator[Count]:
  """Gives what is to be called with (done, total); the bar is shown from the first call on, and vanishes."""
  if not screen.is_terminal:
    yield progress_lines(lambda text: screen.print(text, markup=False), what, unit)
    return
  columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
  with Progress(*columns, console=screen, transient=True) as bar:
    task = bar.add_task(what, total=None, visible=False)
    yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def progress_lines(say: Callable[[str], None], what: str, unit: str, every_s: float = _EVERY_S) -> Count:
  """What is to be called with (done, total): says so at most every so many seconds, for the first time after that."""
  last = time.monotonic()

  def count(done: int, total: int) -> None:
    nonlocal last
    if time.monotonic() - last >= every_s:
      last = time.monotonic()
      say(f"{what}: {done} of {total} {unit}")

  return count
