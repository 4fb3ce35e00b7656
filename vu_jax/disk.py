"""Files that are there as a whole or not at all, and the room that is left for them."""

import contextlib
import pathlib
import shutil
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(file: pathlib.Path) -> Iterator[pathlib.Path]:
  """A path to write to, which takes the place of `file` at the end; after an error the old file is as it was.

  Whoever reads meanwhile sees the old file. Of several writers, processes too, the last one wins.
  """
  scratch = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
  try:
    yield scratch
    scratch.replace(file)
  finally:
    scratch.unlink(missing_ok=True)


def write_text(file: pathlib.Path, text: str) -> None:
  """Writes or replaces a file as a whole."""
  with replacing(file) as scratch:
    scratch.write_text(text, encoding="utf-8")


def free_bytes(place: pathlib.Path) -> int:
  """Room on the disk where a path lies, or will lie."""
  return shutil.disk_usage(next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())).free
