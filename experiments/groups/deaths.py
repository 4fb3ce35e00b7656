"""Gives up a group that kills its process again and again, as one does that needs more memory than there is."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

from vu_jax.disk import write_text
from vu_jax.errors import UserError

FILE = "begun"
MOST_DEATHS = 5  # at one place


@contextlib.contextmanager
def counted_deaths(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
  """Counts, in a file of the folder, how often the process has died in here; whatever leaves by itself is no death.

  Gives what is to be told of the step that has been reached: those before it are behind us.

  Raises:
    UserError: it has died too often at one place. The count begins anew.
  """
  file = folder / FILE
  reached, deaths = map(int, file.read_text().split()) if file.exists() else (-1, 0)
  if deaths >= MOST_DEATHS:
    file.unlink()
    raise UserError(f"its process died {deaths} times at the same place (out of memory?); a smaller --batch needs less")

  def on_step(step: int) -> None:
    if step > reached:
      write_text(file, f"{step} 1")

  write_text(file, f"{reached} {deaths + 1}")
  try:
    yield on_step
  finally:
    file.unlink(missing_ok=True)
