"""The index of a clip in the store "intra", read without FFmpeg.

Opening a container and walking through its packets costs FFmpeg as much time as decoding the frames of a clip; the
places of all frames are a few tables in the file.

Source: ISO/IEC 14496-12 (boxes), ISO/IEC 14496-15 (avc1, avcC).
"""

import struct
from dataclasses import dataclass

import numpy as np

MARK = "vu_jax intra"  # a comment in our own files, which have no rotation, edits or odd pixels to heed
_INSIDE = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_WANTED = (b"stsd", b"stsz", b"stsc", b"stco")
# Boxes which say that frames are not all keyframes, not in order of display, or kept elsewhere.
_REFUSED = {b"stss", b"ctts", b"co64", b"moof", b"mvex"}
_ENTRY_BYTES = 78  # of a visual sample entry before the boxes in it


@dataclass(frozen=True)
class SampleTable:
  """Frame n is `content[starts[n] : starts[n] + sizes[n]]`; `extradata` is what an H.264 decoder needs first."""

  starts: np.ndarray
  sizes: np.ndarray
  extradata: bytes


def read_sample_table(content: bytes) -> SampleTable | None:
  """The table of a clip that `transcode.encode_video` wrote; None for all else."""
  if content[4:8] != b"ftyp" or MARK.encode() not in content[-1024:]:
    return None
  try:
    boxes = _boxes(content, 0, len(content), {})
    if boxes is None or any(len(boxes.get(kind, [])) != 1 for kind in _WANTED):
      return None
    (description,), (sizes_at,), (chunks_at,), (offsets_at,) = (boxes[kind] for kind in _WANTED)
    extradata = _avc_configuration(content, description)
    return _table(content, sizes_at, chunks_at, offsets_at, extradata) if extradata else None
  except (struct.error, ValueError, IndexError):
    return None  # damaged: FFmpeg finds the words for that


def _boxes(content: bytes, start: int, end: int, found: dict[bytes, list[int]]) -> dict[bytes, list[int]] | None:
  """Kind -> where the contents of such boxes begin; None if one of them is refused."""
  while start + 8 <= end:
    size, kind = struct.unpack_from(">I4s", content, start)
    body = start + 8
    if size == 1:
      (size,), body = struct.unpack_from(">Q", content, body), body + 8
    if size < body - start or kind in _REFUSED:
      return None
    if kind in _INSIDE:
      if _boxes(content, body, start + size, found) is None:
        return None
    elif kind in _WANTED:
      found.setdefault(kind, []).append(body)
    start += size
  return found


def _avc_configuration(content: bytes, at: int) -> bytes:
  """The decoder configuration of the only sample entry; empty if it is not avc1."""
  (entries,) = struct.unpack_from(">I", content, at + 4)
  size, kind = struct.unpack_from(">I4s", content, at + 8)
  if entries != 1 or kind != b"avc1":
    return b""
  start, end = at + 16 + _ENTRY_BYTES, at + 8 + size
  while start + 8 <= end:
    length, kind = struct.unpack_from(">I4s", content, start)
    if kind == b"avcC":
      return content[start + 8 : start + length]
    start += max(length, 8)
  return b""


def _table(content: bytes, sizes_at: int, chunks_at: int, offsets_at: int, extradata: bytes) -> SampleTable | None:
  equal_size, count = struct.unpack_from(">II", content, sizes_at + 4)
  sizes = np.full(count, equal_size) if equal_size else _numbers(content, sizes_at + 12, count)
  (chunk_count,) = struct.unpack_from(">I", content, offsets_at + 4)
  offsets = _numbers(content, offsets_at + 8, chunk_count)
  (runs,) = struct.unpack_from(">I", content, chunks_at + 4)
  first, per_chunk, _ = _numbers(content, chunks_at + 8, 3 * runs).reshape(-1, 3).T
  in_chunk = np.repeat(per_chunk, np.diff(np.append(first - 1, chunk_count)))
  if not count or in_chunk.sum() != count:
    return None
  # Samples lie behind each other in their chunk: the sum of the sizes since the chunk began.
  before = np.cumsum(sizes) - sizes
  first_of_chunk = np.cumsum(in_chunk) - in_chunk
  starts = np.repeat(offsets - before[first_of_chunk], in_chunk) + before
  return SampleTable(starts, sizes, extradata) if (starts + sizes <= len(content)).all() else None


def _numbers(content: bytes, at: int, count: int) -> np.ndarray:
  return np.frombuffer(content, ">u4", count, at).astype(np.int64)
