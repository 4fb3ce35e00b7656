"""CHANGES: whether the video files are still those that a dataset was prepared from.

A file counts as changed when its size or the time of its last change differs. That costs one look into the folder per
file and reads none, so it can be done at every start; what it cannot see is a change that keeps both.
"""

import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from vu_jax.config import plain
from vu_jax.disk import write_text

SOURCES = "sources.json"
Stamp: TypeAlias = tuple[int, int]  # size [bytes] and time of the last change [ns]; both -1 = there is no such file


def stamp(path: pathlib.Path) -> Stamp:
  try:
    stat = path.stat()
  except OSError:
    return -1, -1
  return stat.st_size, stat.st_mtime_ns


def write_sources(folder: pathlib.Path, options: Any, sources: Mapping[str, Stamp]) -> None:
  """Keeps in the folder of a dataset what its clips, by id, are made from."""
  write_text(folder / SOURCES, json.dumps({"options": plain(options), "sources": sources}))


def changes(folder: pathlib.Path, options: Any, sources: Mapping[str, Stamp]) -> str:
  """One line about what is new since the last preparation with the same options; "" if nothing is, or none is known.

  Args:
    folder: where the dataset of the present files will be; those of older files are beside it.
    options: of the builder.
    sources: the present files.
  """
  others = (file for file in folder.parent.glob(f"*/{SOURCES}") if file.parent != folder)
  now = json.loads(json.dumps(plain(options)))
  for file in sorted(others, key=lambda file: file.stat().st_mtime_ns, reverse=True):
    known = json.loads(file.read_text())
    if all(now.get(key, value) == value for key, value in known["options"].items()):  # it may know fewer options
      return _difference(file.parent, {key: (size, time) for key, (size, time) in known["sources"].items()}, sources)
  return ""


def _difference(folder: pathlib.Path, old: Mapping[str, Stamp], new: Mapping[str, Stamp]) -> str:
  changed = [key for key, found in new.items() if key in old and found != old[key]]
  more, less = len(new.keys() - old.keys()), len(old.keys() - new.keys())
  found = []
  if changed:
    (was, _), (is_now, time_ns) = old[changed[0]], new[changed[0]]
    date = datetime.datetime.fromtimestamp(max(time_ns, 0) / 1e9).isoformat(" ", "seconds")
    size = f"{is_now:,} bytes as before" if is_now == was else f"{is_now:,} bytes instead of {was:,}"
    now = f"{size}, of {date}" if is_now >= 0 else "gone"
    found.append(f"{len(changed)} of {len(new)} sources changed (first: {changed[0]}: {now})")
  found += [f"{count} {word}" for count, word in ((more, "new"), (less, "no longer listed")) if count]
  if not found:
    return ""
  return (
    f"since {folder} was prepared: {', '.join(found)}; all clips are prepared anew beside it: "
    "delete that folder when no run needs it, or stop and put the old files back to keep it"
  )
