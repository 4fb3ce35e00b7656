"""Encoded video -> RGB frames: only those asked for (`decode_frames`), or all, streaming (`iterate_frames`).

Frame numbers count the pictures of the main video stream (`packets.opened`) in display order, which is the order of
their timestamps, whatever the nominal frame rate says.
"""

import bisect
import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8

from vu_jax.data.clips_time import uneven_times
from vu_jax.data.video.packets import Source, VideoError, alone, decoded, opened, picked, read_table
from vu_jax.data.video.picture import ToRgb, displayed_size, scaled_size
from vu_jax.data.video.sample_table import read_sample_table
from vu_jax.data.video.view import View, show, whole, window_of

__all__ = ["Source", "VideoError", "VideoInfo", "decode_frames", "frame_rate", "iterate_frames", "probe"]


@dataclass(frozen=True)
class VideoInfo:
  """Facts about a video; sizes are as displayed: upright, with square pixels [px]."""

  num_frames: int
  fps: float
  height: int
  width: int
  duration_s: float
  codec: str
  all_intra: bool  # every frame can be decoded alone
  times_s: tuple[float, ...] = ()  # when each frame begins since the first one [s]; empty where `fps` says it


def probe(source: Source) -> VideoInfo:
  """Reads the facts of a video; decodes only its first picture, since only a picture knows its rotation.

  Raises:
    VideoError: there is no video in it, or the first picture cannot be decoded.
  """
  with opened(source) as (container, stream):
    table = read_table(container, stream)
    tick = _tick(stream)
    times_s = [table.pts[packet] * tick for packet in table.shown] if table.regular else []
    fps, codec = frame_rate(times_s, stream.average_rate), stream.codec_context.codec.canonical_name
  with opened(source) as (container, stream):
    picture = next(decoded(container, stream), None)
    if picture is None:
      raise VideoError("no picture of it can be decoded")
    height, width = displayed_size(picture, stream.sample_aspect_ratio)
  count = len(table.shown)
  return VideoInfo(count, fps, height, width, count / fps, codec, all(table.is_key), uneven_times(times_s, fps))


def frame_rate(times_s: Sequence[float], nominal: Fraction | None) -> float:
  """Frames per second of frames shown at the given times; the nominal rate where the two agree or times fail.

  Containers round times to as little as a millisecond, so a nominal rate within 1 % is the exact one.
  """
  span_s = times_s[-1] - times_s[0] if times_s else 0.0
  measured = (len(times_s) - 1) / span_s if span_s > 0 else 0.0
  stated = float(nominal or 0)
  if measured and abs(stated / measured - 1) > 0.01:
    return measured
  return stated if 0.01 <= stated <= 1000 else measured or 25.0


def decode_frames(source: Source, frames: np.ndarray, view: View | None = None) -> UInt8[np.ndarray, "T H W 3"]:
  """Decodes the frames with the given numbers, and as little else as possible.

  Where every frame is a keyframe, only the packets of the wanted frames are decoded. Otherwise decoding
  starts at the keyframe before each wanted frame. Where the timestamps contradict what comes out, pictures
  are counted from the beginning. The result is the same as that of decoding everything.

  Args:
    source: content or path of a video file.
    frames: frame numbers, 1-D, not decreasing, >= 0; repeats are allowed.
    view: the part of the frames that is wanted, and its size; None = whole, as displayed.

  Returns:
    RGB, 0..255.

  Raises:
    VideoError: the video cannot be read, or has no such frame.
    ValueError: `frames` is empty, negative or decreasing.
  """
  wanted = np.asarray(frames)
  if wanted.ndim != 1 or not wanted.size or wanted[0] < 0 or (np.diff(wanted) < 0).any():
    raise ValueError(f"frames must be frame numbers in non-decreasing order, got {wanted}")
  found = _picked_at_once(source, wanted, view) if isinstance(source, bytes) else None
  if found is not None:
    return found
  with opened(source) as (container, stream):
    table = read_table(container, stream)
    if wanted[-1] >= len(table.shown):
      raise VideoError(f"frame {wanted[-1]} was asked for, but there are {len(table.shown)} frames")
    pictures = picked(container, stream, table, np.unique(wanted).tolist())
    found = _gather(pictures, wanted, stream.sample_aspect_ratio, view)
  if found is None:
    with opened(source) as (container, stream):
      pictures = enumerate(decoded(container, stream))
      found = _gather(pictures, wanted, stream.sample_aspect_ratio, view)
  if found is None:
    raise VideoError(f"damaged: frame {wanted[-1]} was asked for, but fewer pictures can be decoded")
  return found


def iterate_frames(
  source: Source,
  *,
  short_side: int = 0,
  enlarge: bool = True,
  start_s: float = 0.0,
  end_s: float = math.inf,
  strict: bool = False,
) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]]:
  """Decodes a video in order, one frame at a time.

  Args:
    source: content or path of a video file.
    short_side: length of the shorter side [px], both sides even; 0 = as displayed.
    enlarge: False = a video that is smaller already keeps its size, made even.
    start_s, end_s: frames with start_s <= time < end_s are given [s].
    strict: True = refuse damaged streams; decoders otherwise give out wrong pictures without a word.

  Yields:
    (time from the start of the stream [s], RGB 0..255); times never decrease.

  Raises:
    VideoError: the video cannot be read; frames before the damaged place have been given by then.
  """
  view, to_rgb = None, ToRgb()
  for stream, time_s, picture in _pictures_from(source, start_s, strict):
    if time_s >= end_s - 1e-6:
      return
    if time_s >= start_s - 1e-6:
      if view is None:
        size = displayed_size(picture, stream.sample_aspect_ratio)
        view = whole(*size, scaled_size(size, short_side, enlarge) if short_side else size)
      rgb = np.empty((*view.size, 3), np.uint8)
      show(view, to_rgb(picture, partial(window_of, view)), rgb)
      yield time_s, rgb


def _picked_at_once(content: bytes, wanted: np.ndarray, view: View | None) -> UInt8[np.ndarray, "T H W 3"] | None:
  """The frames of a stored clip (`encode_video`) by its index; None if it is no such clip, or does not decode so."""
  table = read_sample_table(content)
  if table is None or wanted[-1] >= len(table.sizes):
    return None
  frames = np.unique(wanted).tolist()
  with contextlib.suppress(av.error.FFmpegError):
    return _gather(zip(frames, alone(content, table, frames), strict=False), wanted, None, view)
  return None


def _gather(
  pictures: Iterable[tuple[int, av.VideoFrame]], wanted: np.ndarray, pixel_aspect: Fraction | None, view: View | None
) -> UInt8[np.ndarray, "T H W 3"] | None:
  """Puts the wanted ones of increasingly numbered pictures into one array; None if one does not come."""
  numbers = wanted.tolist()
  clip, done, to_rgb = None, 0, ToRgb()
  for number, picture in pictures:
    if number == numbers[done]:
      view = view or whole(*displayed_size(picture, pixel_aspect))
      clip = np.empty((len(wanted), *view.size, 3), np.uint8) if clip is None else clip
      show(view, to_rgb(picture, partial(window_of, view)), clip[done])
      repeats = bisect.bisect_right(numbers, number)
      clip[done + 1 : repeats] = clip[done]
      done = repeats
      if done == len(numbers):
        return clip
  return None


def _pictures_from(source: Source, start_s: float, strict: bool) -> Iterator[tuple[VideoStream, float, av.VideoFrame]]:
  """(stream, time [s], picture) from the start time or a little earlier, by seeking where that works."""
  if start_s > 0:
    with opened(source, strict) as (container, stream):
      timed = _after_seek(container, stream, start_s, strict)
      if timed is not None:
        yield from timed
        return
  with opened(source, strict) as (container, stream):
    yield from _timed(stream, decoded(container, stream, strict))


def _after_seek(
  container: InputContainer, stream: VideoStream, start_s: float, strict: bool
) -> Iterator[tuple[VideoStream, float, av.VideoFrame]] | None:
  """Seeks; None if that fails or does not lead to a picture at or before the start."""
  if stream.start_time is None:
    return None
  with contextlib.suppress(av.error.FFmpegError, VideoError):
    container.seek(stream.start_time + int(start_s / _tick(stream)), stream=stream)
    timed = _timed(stream, decoded(container, stream, strict))
    first = next(timed, None)
    if first is not None and first[1] <= start_s:
      return itertools.chain([first], timed)
  return None


def _timed(
  stream: VideoStream, pictures: Iterable[av.VideoFrame]
) -> Iterator[tuple[VideoStream, float, av.VideoFrame]]:
  """Adds the time since the start of the stream [s]; without timestamps, at the nominal rate."""
  start, time_s = stream.start_time, 0.0
  step_s = 1 / frame_rate([], stream.average_rate)
  for count, picture in enumerate(pictures):
    if picture.pts is None:
      time_s = time_s + step_s if count else 0.0
    else:
      start = picture.pts if start is None else start
      time_s = max(time_s, (picture.pts - start) * _tick(stream))
    yield stream, time_s, picture


def _tick(stream: VideoStream) -> float:
  """Unit of the stream's timestamps [s]."""
  return float(stream.time_base or Fraction(1, 90000))
