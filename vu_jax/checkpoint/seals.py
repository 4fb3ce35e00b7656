"""Sums of a checkpoint's files: TensorStore notices files that are cut, but not a bit that has turned."""

import json
import pathlib
import threading
import zlib

from vu_jax.disk import write_text

FILE = "crc32.json"
_CHUNK = 2**24
_POLL_S = 0.05


class Sealer:
  """Writes the sums of a checkpoint into it, in the background, once it is complete.

  A run that is killed before leaves a checkpoint without them, which is as good, but not proven to be.
  """

  def __init__(self) -> None:
    self._closed = threading.Event()
    self._thread: threading.Thread | None = None

  def seal(self, folder: pathlib.Path) -> None:
    """Waits, elsewhere, until the folder is there, and seals it."""
    self._thread = threading.Thread(target=self._wait_and_seal, args=(folder,), daemon=True)
    self._thread.start()

  def close(self) -> None:
    """Seals what is complete."""
    self._closed.set()
    if self._thread is not None:
      self._thread.join()

  def _wait_and_seal(self, folder: pathlib.Path) -> None:
    while not folder.exists() and not self._closed.wait(_POLL_S):
      pass
    try:
      write_text(folder / FILE, json.dumps(sums(folder)))
    except OSError:
      return  # the folder is not there, or was deleted in favour of newer ones, or the disk is full


def sums(folder: pathlib.Path) -> dict[str, int]:
  """Relative path -> CRC-32 of every file."""
  files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(FILE))
  return {str(p.relative_to(folder)): crc32(p) for p in files}


def crc32(file: pathlib.Path) -> int:
  found = 0
  with file.open("rb") as content:
    while chunk := content.read(_CHUNK):
      found = zlib.crc32(chunk, found)  # releases the GIL
  return found


def broken_seal(folder: pathlib.Path) -> str:
  """The first file that is missing or other than it was written; "" if there is none, or no sums to compare with."""
  try:
    written = json.loads((folder / FILE).read_text())
  except (FileNotFoundError, ValueError):
    return ""
  now = sums(folder)
  return next((name for name, value in written.items() if now.get(name) != value), "")
