"""ActivityNet 1.2 and 1.3: untrimmed YouTube videos with labelled segments (Caba Heilbron et al., CVPR 2015).

The database, from http://activity-net.org/download.html, is activity_net.v1-3.min.json in the root or annotations/:
  {"database": {"o1WPnnvs00I": {"duration": 229.86, "subset": "training", "annotations":
    [{"segment": [20.0, 54.7], "label": "Applying sunscreen"}], ...}, ...}, "taxonomy": [{"nodeName": ...}, ...]}

Segments are in seconds. Every segment is a clip (trimmed classification); its group is its video, so no video is in
two splits. Test videos have no public labels and are left out. Videos: v_ID.mp4 or ID.mp4 with any ending, anywhere
below the root. Many are gone from YouTube, so missing files are no fault.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from vu_jax.data.listing.folders import Clip, check_root, part_id
from vu_jax.data.listing.layouts._files import Videos, check_only_split, check_some_exist, list_folder, read_json
from vu_jax.errors import UserError

VIDEOS_VANISH = True
_PATTERN = "activity_net*.json"
_SIDE = {"training": "train", "validation": "validation", "testing": "test"}
_SHORTEST_S = 0.02  # less than a frame; nothing can be stored of it


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the annotated segments in the order of the database.

  Segments are cut at the video's duration; what is then shorter than 0.02 s is left out, and what is there twice
  counts once.

  Raises:
    UserError: no database or several, a faulty entry, an unknown class, a segment with two classes, or no video at all.
  """
  check_root(root)
  check_only_split(split, "ActivityNet")
  folder = list_folder(root, (".", "annotations"), _PATTERN, "database of ActivityNet")
  file, *others = sorted(folder.glob(_PATTERN))
  if others:
    raise UserError(f"{folder} has {file.name} and {others[0].name}; keep the one that is meant")
  content = read_json(file, dict)
  if not isinstance(content.get("database"), dict):
    raise UserError(f"{file} has no database; fetch the official file")
  classes = {node.get("nodeName") for node in content.get("taxonomy", []) if isinstance(node, dict)}
  videos = Videos(root)
  clips: dict[str, Clip] = {}
  for video_id, entry in content["database"].items():
    where = f"{file} video {video_id}"
    path = videos.find(f"v_{video_id}", "") or videos.find(video_id, "") or pathlib.PurePath(f"v_{video_id}.mp4")
    for label, start_s, end_s, side in _segments(entry, where):
      if classes and label not in classes:
        raise UserError(f"{where} has the class {label!r}, which is not in the taxonomy; mend one of the two")
      clip = Clip(part_id(path, start_s, end_s), root / path, label, side, start_s, end_s, video_id)
      if clips.setdefault(clip.id, clip) != clip:
        raise UserError(f"{where} has two classes for the segment {start_s:g}-{end_s:g} s; remove one")
  check_some_exist(list(clips.values()), root, str(file))
  return list(clips.values())


def _segments(entry: Any, where: str) -> Iterator[tuple[str, float, float, str]]:
  """(class, start [s], end [s], split) of one video."""
  side = _SIDE.get(entry.get("subset", "")) if isinstance(entry, dict) else None
  if side is None:
    raise UserError(f"{where} has no subset training, validation or testing; fetch the official file")
  for number, annotation in enumerate(entry.get("annotations", []), 1):
    try:
      label, (start_s, end_s) = str(annotation["label"]), map(float, annotation["segment"])
      duration_s = float(entry.get("duration", "inf"))
    except (KeyError, TypeError, ValueError):
      raise UserError(f"{where} annotation {number} needs a label and a segment [start, end] in seconds") from None
    if not start_s <= end_s:
      raise UserError(f"{where} annotation {number} ends at {end_s:g} s, before its start at {start_s:g} s; mend it")
    start_s, end_s = max(start_s, 0.0), min(end_s, duration_s)
    if end_s - start_s >= _SHORTEST_S:
      yield label, start_s, end_s, side
