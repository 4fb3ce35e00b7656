"""How clips are stored, and how the frames of a stored clip are read.

  intra   MP4 of small H.264 frames, each decodable alone       small, fast: the default
  jpeg    the frames as JPEG pictures, one after the other      larger, somewhat faster
  source  the video's own bytes                                 nothing is lost or written anew; slow to read
  raw     the pixels, in one flat file beside the records       for small sets: no decoding at all

What a record holds says itself how it is read: MP4 and its kin by FFmpeg, JPEG rows by their first bytes, and pixels by
being an array.
"""

import pathlib
import struct
from collections.abc import Iterable
from typing import Literal, TypeAlias

import cv2
import numpy as np
from jaxtyping import UInt8

from vu_jax.data.video.decode import decode_frames
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.view import View, see, show, window_of

Store: TypeAlias = Literal["intra", "jpeg", "source", "raw"]
Rgb = UInt8[np.ndarray, "H W 3"]
_JPEG_ROW = b"JPEGROW1"  # then the number of frames, the end of each (uint32, little-endian), the pictures
_QUALITY = 95
PIXELS = "pixels.u8"  # flat file of the store "raw": clips in a row, each (T H W 3)


def append_pixels(directory: pathlib.Path, pixels: bytes, name: str = PIXELS) -> bytes:
  """Adds a clip to a flat file of a "raw" dataset; what its record holds instead: its first byte, and the file."""
  with (directory / name).open("ab") as file:
    place = file.tell()
    file.write(pixels)
  return struct.pack("<Q", place) + name.encode()


def pixels_file(place: bytes) -> str:
  """Name of the flat file that a record of a "raw" dataset points to; older records name none."""
  return place[8:].decode() or PIXELS


def mapped_pixels(
  file: np.ndarray, place: bytes, num_frames: int, height: int, width: int
) -> UInt8[np.ndarray, "T H W 3"]:
  """A clip of a "raw" dataset, as a view of its flat file mapped into memory: only pages that are used are read."""
  (start,) = struct.unpack_from("<Q", place)
  size = num_frames * height * width * 3
  return file[start : start + size].reshape(num_frames, height, width, 3)


def decode_clip(video: bytes | np.ndarray, frames: np.ndarray, view: View) -> UInt8[np.ndarray, "T H W 3"]:
  """The view of the frames with the given numbers of a stored clip.

  Args:
    video: of a record: encoded bytes, or the pixels (T H W 3).
    frames: frame numbers, 1-D, not decreasing, >= 0; repeats are allowed.
    view: the part of the frames that is wanted, and its size [px].

  Raises:
    VideoError: the clip is damaged or has no such frame.
  """
  if isinstance(video, np.ndarray):
    _check(frames, len(video))
    rows, columns = window_of(view, video.shape[1:3])
    if view.size == (rows.stop - rows.start, columns.stop - columns.start) and not view.flip:
      return video[frames, rows, columns]
    return see(video[frames], view)
  if video[: len(_JPEG_ROW)] == _JPEG_ROW:
    return _decode_jpeg_row(video, frames, view)
  return decode_frames(video, frames, view)


def encode_jpeg_row(frames: Iterable[Rgb], quality: int = _QUALITY) -> bytes:
  """Pictures stored one after the other; quality is JPEG's, 1..100."""
  pictures = []
  for rgb in frames:
    done, picture = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
      raise VideoError(f"a frame of {rgb.shape[1]}x{rgb.shape[0]} px cannot be stored as JPEG")
    pictures.append(picture.tobytes())
  ends = np.cumsum([len(picture) for picture in pictures], dtype="<u4")
  return b"".join([_JPEG_ROW, struct.pack("<I", len(pictures)), ends.tobytes(), *pictures])


def _decode_jpeg_row(video: bytes, frames: np.ndarray, view: View) -> UInt8[np.ndarray, "T H W 3"]:
  start = len(_JPEG_ROW) + 4
  (count,) = struct.unpack_from("<I", video, len(_JPEG_ROW))
  _check(frames, count)
  first = start + 4 * count
  ends = np.frombuffer(video, "<u4", count, start)
  content = np.frombuffer(video, np.uint8)
  clip = np.empty((len(frames), *view.size, 3), np.uint8)
  for place, frame in enumerate(frames):
    if place and frame == frames[place - 1]:
      clip[place] = clip[place - 1]
      continue
    begin = int(ends[frame - 1]) if frame else 0
    picture = cv2.imdecode(content[first + begin : first + int(ends[frame])], cv2.IMREAD_COLOR_RGB)
    if picture is None:
      raise VideoError(f"damaged: frame {frame} is no JPEG picture")
    rows, columns = window_of(view, picture.shape[:2])
    show(view, picture[rows, columns], clip[place])
  return clip


def _check(frames: np.ndarray, count: int) -> None:
  if frames[-1] >= count:
    raise VideoError(f"frame {frames[-1]} was asked for, but there are {count} frames")
