"""The line on which the frames of a video lie, in frames or in seconds, and what is found at a place on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_EVEN_S = 0.002  # containers round times to as little as a millisecond, the first one too


@dataclass(frozen=True)
class Timeline:
  """Where each frame of a video begins, from 0 on.

  Fields:
    starts: of the frames, increasing; frame numbers themselves, or seconds.
    frame: length of the last frame, in the same unit.
    whole: clips start at whole numbers (frames), not anywhere (seconds).
  """

  starts: Float[np.ndarray, " n"]
  frame: float
  whole: bool

  @property
  def end(self) -> float:
    """Where the last frame ends."""
    return float(self.starts[-1]) + self.frame

  def nearest(self, places: Float[np.ndarray, " T"]) -> Int[np.ndarray, " T"]:
    """The frames that begin nearest to the places; the later one of two; the first or last one outside."""
    middles = (self.starts[1:] + self.starts[:-1]) / 2
    return np.searchsorted(middles, places, side="right").astype(np.int64)

  def shown(self, places: Float[np.ndarray, " T"]) -> Int[np.ndarray, " T"]:
    """The frames on the screen at the places; the first or last one outside."""
    return np.searchsorted(self.starts[1:], places, side="right").astype(np.int64)


def frame_line(video_frames: int) -> Timeline:
  """Frames as the unit."""
  return Timeline(np.arange(video_frames, dtype=np.float64), 1.0, True)


def second_line(video_frames: int, fps: float, times_s: np.ndarray | None) -> Timeline:
  """Seconds as the unit.

  Args:
    video_frames: length of the video, >= 1.
    fps: its frame rate [1/s], where there is no table.
    times_s: when each frame begins [s], not decreasing; None = at a constant rate.

  Raises:
    ValueError: the table has another length than the video, or decreases.
  """
  if times_s is None:
    return Timeline(np.arange(video_frames) / fps, 1 / fps, False)
  times = np.asarray(times_s, np.float64)
  if times.shape != (video_frames,) or (np.diff(times) < 0).any():
    raise ValueError(f"times_s must hold {video_frames} times in order, got shape {times.shape}")
  frame = float(np.median(np.diff(times))) if video_frames > 1 else 1 / fps
  return Timeline(times - times[0], frame or 1 / fps, False)


def uneven_times(times_s: Sequence[float], fps: float) -> tuple[float, ...]:
  """When each frame begins since the first one [s], where a constant rate does not say it; empty where it does.

  Args:
    times_s: of the frames, in order.
    fps: the rate that is stored with them [1/s].
  """
  if not times_s:
    return ()
  since_first = np.asarray(times_s, np.float64) - times_s[0]
  late = np.abs(since_first - np.arange(len(times_s)) / fps)
  return tuple(since_first.tolist()) if late.max() > _EVEN_S else ()
