"""Orbax raises its errors, and says them three times more; what it raises we say in one line."""

import logging
import sys
from functools import cache
from typing import Any


@cache
def hush_orbax() -> None:
  """Drops what Orbax logs, and what its abandoned background tasks leave on the terminal."""
  logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
  logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.getMessage())
  before = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":  # TensorStore's, when a save has failed
      before(unraisable)

  sys.unraisablehook = hook
