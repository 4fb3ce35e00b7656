"""Which frames a clip takes: index arithmetic, no pixels."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from vu_jax.data.clips_time import Timeline, frame_line, second_line
from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction, Positive, PositiveOrZero

Rng = np.random.Generator | None


@dataclass(frozen=True, kw_only=True)
class Clip:
  """Which frames of a video make a clip.

  Fields:
    num_frames: T.
    sampling: "dense" takes frames a fixed stride apart, with a random start in training and centred in evaluation;
      "rate" takes T / `rate_hz` seconds at `rate_hz` frames per second whatever the rate of the video: for each moment
      the nearest frame, so that videos of all rates are aligned in time; starts are not bound to frames;
      "segments" cuts the video into T equal parts and takes one frame of each, at random in training and the middle
      one in evaluation (TSN, Wang et al. 2016, section 3.1).
    start: dense and rate, where in the video training clips start: at "random", or always so that they are centred, as
      in evaluation.
    stride_f: dense: frames from one to the next.
    stride_s: dense: seconds from one to the next; above 0 it replaces `stride_f`.
    rate_hz: rate: frames per second of the clip.
    span_s: segments: length of the part of the video that is cut [s]; 0 = the whole video.
    short: a video shorter than the clip is an "error"; or its last frame is repeated ("repeat"), it begins again
      ("loop"), or it lies in the middle between repeats of its first and last frame ("centre"). Segments of a short
      video overlap, whichever of the three is chosen.
    speed: training, dense and rate: range of a random factor of the stride, each octave equally often; 2 = twice as
      fast. It is lowered where the clip would not fit into the video.
    jitter_frac: training, dense and rate: each frame moves at random by up to half of this share of the stride to
      either side, so that the order stays.
    reverse_frac: training: share of the clips that are played backwards. A reversed clip may belong to another label
      ("opening" becomes "closing", "left" becomes "right"), and the label is not changed: use it only where the
      labels have no direction in time.
    order: of the frames that were taken, in training and in evaluation: that of "time"; or "shuffled", each clip in an
      order of its own, so that nothing is left of time but which frames belong together.
  """

  num_frames: Count = 16
  sampling: Literal["dense", "rate", "segments"] = "dense"
  start: Literal["random", "centre"] = "random"
  stride_f: Count = 1
  stride_s: PositiveOrZero = 0.0
  rate_hz: PositiveOrZero = 0.0
  span_s: PositiveOrZero = 0.0
  short: Literal["error", "repeat", "loop", "centre"] = "error"
  speed: tuple[Positive, Positive] = (1.0, 1.0)
  jitter_frac: Fraction = 0.0
  reverse_frac: Fraction = 0.0
  order: Literal["time", "shuffled"] = "time"

  def __post_init__(self) -> None:
    if (self.sampling == "rate") != (self.rate_hz > 0):
      raise UserError(f'rate_hz = {self.rate_hz:g}: must be above 0 for sampling = "rate", and 0 for any other')
    if self.speed[0] > self.speed[1]:
      raise UserError(f"speed = ({self.speed[0]:g}, {self.speed[1]:g}): the first must not be above the second")
    if self.sampling == "segments" and (self.speed != (1.0, 1.0) or self.jitter_frac):
      raise UserError('sampling = "segments" takes frames at random already: leave speed and jitter_frac alone')


def span(clip: Clip, video_frames: int, fps: float) -> int:
  """Frames from the first to behind the last one of a clip; for segments at least one frame each.

  Seconds are rounded to frames, so that a frame rate which floats cannot hold does not make a clip too long.
  """
  if clip.sampling == "segments":
    return max(clip.num_frames, _rounded(clip.span_s * fps) if clip.span_s else video_frames)
  return _rounded((clip.num_frames - 1) * _stride(clip, fps)) + 1


def frame_numbers(
  clip: Clip,
  video_frames: int,
  fps: float,
  rng: Rng,
  times_s: np.ndarray | None = None,
  view: tuple[int, int] = (0, 1),
) -> Int[np.ndarray, " T"]:
  """Picks the frame numbers of one clip.

  Args:
    clip: the rule.
    video_frames: length of the video [frames], >= 1.
    fps: its frame rate [1/s].
    rng: draws the start (dense, rate) or the place in each segment, and what else is random; None = evaluation.
    times_s: when each frame begins [s], for videos of variable rate; everything but strides in frames then goes by
      these times. None = the rate is constant.
    view: evaluation: (number, count) of temporal views. One is centred; of several, the first starts at the first
      possible frame, the last one at the last, the others evenly between. Segments of the whole video have one
      start, so their views take other frames of each segment: the middles of `count` equal parts.

  Returns:
    Frame numbers in [0, video_frames), non-decreasing; decreasing where a clip is reversed, and starting again at 0
    where a short video is looped.

  Raises:
    UserError: the video is shorter than the clip and `clip.short` is "error".
    ValueError: `times_s` does not fit the video.
  """
  check_length(clip, video_frames, fps, times_s)
  in_frames = _in_frames(clip, times_s)
  line = frame_line(video_frames) if in_frames else second_line(video_frames, fps, times_s)
  pick = _segments if clip.sampling == "segments" else _strided
  numbers = pick(clip, line, fps if in_frames else 1.0, rng, view)
  # Drawn last and only where asked for, so that other options draw as they do without it.
  if rng is not None and clip.reverse_frac and rng.uniform() < clip.reverse_frac:
    return numbers[::-1].copy()
  return numbers


def ordered(clip: Clip, frames: Int[np.ndarray, " T"], rng: Rng, *key: int) -> Int[np.ndarray, " T"]:
  """The frames of a clip in the order in which the network sees them.

  All orders are equally likely, that of time too: without it, or with one order for all clips, the reversed one would
  be another draw than its opposite, and a network could learn to tell a motion from its reversal again.

  Args:
    clip: the rule.
    frames: in time.
    rng: of training; None = evaluation.
    key: of the clip, >= 0; in evaluation it decides the order, which never changes.
  """
  if clip.order == "time":
    return frames
  return (np.random.default_rng(key) if rng is None else rng).permutation(frames)


def windows(
  clip: Clip, video_frames: int, fps: float, overlap_frac: float = 0.5, times_s: np.ndarray | None = None
) -> list[Int[np.ndarray, " T"]]:
  """Clips that cover a long video, each sharing `overlap_frac` of its span with the next, the last one flush.

  Segments over the whole video make one window.

  Args:
    clip: the rule.
    video_frames: length of the video [frames].
    fps: its frame rate [1/s].
    overlap_frac: in [0, 1); 0 = side by side.
    times_s: when each frame begins [s]; None = the rate is constant. With it clips by seconds are evenly spaced, and
      share a little more.
  """
  if not 0 <= overlap_frac < 1:
    raise ValueError(f"overlap_frac = {overlap_frac}: must be at least 0 and below 1")
  if times_s is not None and not _in_frames(clip, times_s):
    length, room = _span_and_room(clip, second_line(video_frames, fps, times_s))
    count = max(math.ceil(room / (max(length, 1 / fps) * (1 - overlap_frac))), 0) + 1
    return [frame_numbers(clip, video_frames, fps, None, times_s, (number, count)) for number in range(count)]
  length = span(clip, video_frames, fps)
  if length >= video_frames:
    return [frame_numbers(clip, video_frames, fps, None)]
  inside = frame_numbers(clip, length, fps, None)
  last = video_frames - length
  starts = [*range(0, last, max(int(length * (1 - overlap_frac)), 1)), last]
  return [inside + start for start in starts]


def check_length(clip: Clip, video_frames: int, fps: float, times_s: np.ndarray | None = None) -> None:
  """Raises UserError if the video is too short for the clip and must not be padded."""
  if times_s is not None and (clip.sampling == "rate" or (clip.sampling == "dense" and clip.stride_s)):
    video_frames = _rounded((times_s[-1] - times_s[0]) * fps) + 1  # as long as it would be at a constant rate
  length = span(clip, video_frames, fps)
  if clip.short == "error" and length > video_frames:
    raise UserError(
      f"a clip of {clip.num_frames} frames spans {length} frames, but the video has {video_frames}: lower "
      'config.clip.num_frames or its stride, or set config.clip.short="repeat"'
    )


def in_order(frames: Int[np.ndarray, " T"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " T"] | None]:
  """(numbers, places) with numbers[places] == frames, the numbers in order, as decoders want them.

  Frames that are in order already come back as they are, with None.
  """
  if (np.diff(frames) >= 0).all():
    return frames, None
  numbers, places = np.unique(frames, return_inverse=True)
  return numbers, places


def _in_frames(clip: Clip, times_s: np.ndarray | None) -> bool:
  """Whether the clip is taken by frame numbers, not by times."""
  return clip.sampling != "rate" and (times_s is None or (clip.sampling == "dense" and not clip.stride_s))


def _span_and_room(clip: Clip, line: Timeline) -> tuple[float, float]:
  """Seconds that a clip takes, and that the video has left."""
  if clip.sampling == "segments":
    return clip.span_s or line.end, line.end - (clip.span_s or line.end)
  length = (clip.num_frames - 1) * _stride(clip, 1.0)
  return length, float(line.starts[-1]) - length


def _strided(clip: Clip, line: Timeline, fps: float, rng: Rng, view: tuple[int, int]) -> Int[np.ndarray, " T"]:
  """Frames a stride apart; `fps` is 1 on a line of seconds."""
  steps, stride = clip.num_frames - 1, _stride(clip, fps)
  last = float(line.starts[-1])
  if rng is not None and clip.speed != (1.0, 1.0):
    fitting = max(last / (steps * stride), 1.0) if steps else math.inf
    stride *= min(math.exp(rng.uniform(math.log(clip.speed[0]), math.log(clip.speed[1]))), fitting)
  length = _rounded(steps * stride) if line.whole else steps * stride
  drawn = rng if clip.start == "random" else None
  start = _start(last - length, line.whole, drawn, view, early=clip.short == "centre")
  places = start + np.arange(clip.num_frames) * stride
  if rng is not None and clip.jitter_frac:
    moved = places + stride * clip.jitter_frac * rng.uniform(-0.5, 0.5, clip.num_frames)
    places = np.clip(moved, min(start, 0), max(last, places[-1]))
  if clip.short == "loop" and length > last + line.frame / 2:
    places = places % line.end
  return line.nearest(places)


def _segments(clip: Clip, line: Timeline, fps: float, rng: Rng, view: tuple[int, int]) -> Int[np.ndarray, " T"]:
  """One frame of each of T equal parts; a short video's parts overlap instead of running over its end."""
  wanted = clip.span_s * fps if clip.span_s else line.end
  if line.whole:
    wanted = max(clip.num_frames, _rounded(wanted))
  room = max(line.end - wanted, 0)
  start = _start(room, False, rng, view if room else (0, 1))
  place = rng.uniform(size=clip.num_frames) if rng is not None else 0.5 if room else (view[0] + 0.5) / view[1]
  part = min(wanted, line.end) / clip.num_frames
  return line.shown(start + (np.arange(clip.num_frames) + place) * part)


def _start(room: float, whole: bool, rng: Rng, view: tuple[int, int], early: bool = False) -> float:
  """Where a clip starts if `room` of the video is left; `early`: where too little is, half of that before 0."""
  if room < 0:
    room = room if early else 0.0
    return math.floor(room / 2) if whole else room / 2
  number, count = view
  if rng is not None:
    return int(rng.integers(int(room) + 1)) if whole else rng.uniform(0, room)
  start = room / 2 if count == 1 else room * number / (count - 1)
  if not whole:
    return start
  return int(start) if count == 1 else _rounded(start)


def _stride(clip: Clip, fps: float) -> float:
  """In frames; in seconds for fps = 1."""
  if clip.sampling == "rate":
    return fps / clip.rate_hz
  return clip.stride_s * fps if clip.stride_s else float(clip.stride_f)


def _rounded(frames: float) -> int:
  """To the nearest whole number, halves up, as frame numbers are."""
  return int(np.floor(frames + 0.5))
