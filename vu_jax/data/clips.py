"""Which frames and which pixels a clip takes: index arithmetic, no pixels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from vu_jax.errors import UserError
from vu_jax.glossary import Count, PositiveOrZero

Rng = np.random.Generator | None


@dataclass(frozen=True, kw_only=True)
class Clip:
  """Which frames of a video make a clip.

  Fields:
    num_frames: T.
    sampling: "dense" takes frames a fixed stride apart, with a random start in training and centred in evaluation;
      "segments" cuts the video into T equal parts and takes one frame of each, at random in training and the middle
      one in evaluation (TSN, Wang et al. 2016, section 3.1).
    stride_f: dense: frames from one to the next.
    stride_s: dense: seconds from one to the next; above 0 it replaces `stride_f`.
    span_s: segments: length of the part of the video that is cut [s]; 0 = the whole video.
    short: a video shorter than the clip is an "error", or its last frame is repeated ("repeat").
  """

  num_frames: Count = 16
  sampling: Literal["dense", "segments"] = "dense"
  stride_f: Count = 1
  stride_s: PositiveOrZero = 0.0
  span_s: PositiveOrZero = 0.0
  short: Literal["error", "repeat"] = "error"


def span(clip: Clip, video_frames: int, fps: float) -> int:
  """Frames from the first to behind the last one of a clip; for segments at least one frame each.

  Seconds are rounded to frames, so that a frame rate which floats cannot hold does not make a clip too long.
  """
  if clip.sampling == "segments":
    return max(clip.num_frames, _rounded(clip.span_s * fps) if clip.span_s else video_frames)
  return _rounded((clip.num_frames - 1) * _stride(clip, fps)) + 1


def frame_numbers(clip: Clip, video_frames: int, fps: float, rng: Rng) -> Int[np.ndarray, " T"]:
  """Picks the frame numbers of one clip.

  Args:
    clip: the rule.
    video_frames: length of the video [frames], >= 1.
    fps: its frame rate [1/s].
    rng: draws the start (dense) or the place in each segment; None = evaluation, centred.

  Returns:
    Frame numbers in [0, video_frames), non-decreasing.

  Raises:
    UserError: the video is shorter than the clip and `clip.short` is "error".
  """
  length = span(clip, video_frames, fps)
  check_length(clip, video_frames, fps)
  room = max(video_frames - length, 0)
  if clip.sampling == "segments":
    start = room / 2 if rng is None else rng.uniform(0, room)
    place = 0.5 if rng is None else rng.uniform(size=clip.num_frames)
    # A short video's segments overlap instead of running over its end.
    part = min(length, video_frames) / clip.num_frames
    times = np.floor(start + (np.arange(clip.num_frames) + place) * part)
  else:
    first = room // 2 if rng is None else int(rng.integers(room + 1))
    times = np.floor(first + np.arange(clip.num_frames) * _stride(clip, fps) + 0.5)
  return np.clip(times, 0, video_frames - 1).astype(np.int64)


def windows(clip: Clip, video_frames: int, fps: float) -> list[Int[np.ndarray, " T"]]:
  """Clips that cover a long video: a dense clip at every half span, the last one flush with the end.

  Segments over the whole video make one window.
  """
  length = span(clip, video_frames, fps)
  if length >= video_frames:
    return [frame_numbers(clip, video_frames, fps, None)]
  inside = frame_numbers(clip, length, fps, None)
  last = video_frames - length
  starts = [*range(0, last, max(length // 2, 1)), last]
  return [inside + start for start in starts]


def check_length(clip: Clip, video_frames: int, fps: float) -> None:
  """Raises UserError if the video is too short for the clip and must not be padded."""
  length = span(clip, video_frames, fps)
  if clip.short == "error" and length > video_frames:
    raise UserError(
      f"a clip of {clip.num_frames} frames spans {length} frames, but the video has {video_frames}: lower "
      'config.clip.num_frames or its stride, or set config.clip.short="repeat"'
    )


def crop_corner(height: int, width: int, size: int, rng: Rng) -> tuple[int, int]:
  """(top, left) of a size x size crop [px]: anywhere, or the centre when rng is None."""
  rows, columns = height - size, width - size
  if rng is None:
    return rows // 2, columns // 2
  return int(rng.integers(rows + 1)), int(rng.integers(columns + 1))


def _stride(clip: Clip, fps: float) -> float:
  return clip.stride_s * fps if clip.stride_s else float(clip.stride_f)


def _rounded(frames: float) -> int:
  """To the nearest whole number, halves up, as frame numbers are."""
  return int(np.floor(frames + 0.5))
