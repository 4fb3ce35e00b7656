"""Files that are there as a whole or not at all, also when several processes write them at once."""

import pathlib
import uuid


def write_text(file: pathlib.Path, text: str) -> None:
  """Writes or replaces a file; of several writers the last one wins."""
  scratch = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
  try:
    scratch.write_text(text)
    scratch.replace(file)
  finally:
    scratch.unlink(missing_ok=True)
