"""The sound track of a video, on the clock of its pictures: one channel, one rate, sample by sample.

Where a sample lies is what its timestamp says, so streams that begin apart from each other, and the samples that an
encoder puts in front (which FFmpeg takes away again, or counts from before the beginning), are right by themselves.
"""

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from jaxtyping import Int16

from vu_jax.data.video.packets import Source, VideoError, opened, packets

_GAP_S = 0.015  # less is jitter of timestamps; the shortest packet that can be lost is longer
_BEFORE_S = 0.5  # decoders need some of what is before, and so does the resampler's filter
_AFTER_S = 0.05
_LONGEST_GAP_S = 3600


@dataclass(frozen=True)
class Track:
  """Sound from a moment of the video on.

  Fields:
    samples: full scale is -32768 to 32767; gaps are silent.
    first: samples from that moment to the first one here.
    rate_hz: samples per second.
  """

  samples: Int16[np.ndarray, " n"]
  first: int
  rate_hz: int


def read_track(source: Source, rate_hz: int, start_s: float = 0.0, span_s: float = math.inf) -> Track | None:
  """Reads the sound of a part of a video: the mean of all channels, resampled by libswresample.

  Args:
    source: content or path of a video file.
    rate_hz: samples per second.
    start_s: first moment [s from the start of the video stream, as `iterate_frames` counts].
    span_s: length of the part [s].

  Returns:
    What there is of it; None if there is no sound track, or none of it lies in that part.

  Raises:
    VideoError: the file, or its sound, cannot be read.
  """
  runs = _runs(_frames_from(source, start_s, start_s + span_s), rate_hz)
  pieces = [_cut(round((time_s - start_s) * rate_hz), samples, span_s * rate_hz) for time_s, samples in runs]
  pieces = [(first, samples) for first, samples in pieces if len(samples)]
  if not pieces:
    return None
  first, last = min(at for at, _ in pieces), max(at + len(samples) for at, samples in pieces)
  if last - first > sum(len(samples) for _, samples in pieces) + _LONGEST_GAP_S * rate_hz:
    raise VideoError("the timestamps of its sound leap by hours")
  joined = np.zeros(last - first, np.int16)
  for at, samples in pieces:
    joined[at - first : at - first + len(samples)] = samples
  return Track(joined, first, rate_hz)


def _cut(at: int, samples: np.ndarray, count: float) -> tuple[int, np.ndarray]:
  """What of samples that begin at `at` lies from 0 to before `count`."""
  stop = len(samples) if math.isinf(count) else max(round(count) - at, 0)
  return max(at, 0), samples[max(-at, 0) : stop]


def _frames_from(source: Source, start_s: float, end_s: float) -> Iterator[tuple[float, av.AudioFrame]]:
  """(time since the start of the video stream [s], decoded piece) of a part and a little more at both ends."""
  if start_s > _BEFORE_S:
    with _opened(source) as (container, audio, zero_s):
      if audio is not None and _seek(container, audio, zero_s + start_s - _BEFORE_S):
        timed = _timed(container, audio, zero_s, start_s - _AFTER_S)
        first = next(timed, None)
        if first is not None and first[0] <= start_s - _AFTER_S:
          yield from _until(end_s, itertools.chain([first], timed))
          return
  with _opened(source) as (container, audio, zero_s):  # from the beginning, which is always right
    if audio is not None:
      yield from _until(end_s, _timed(container, audio, zero_s, start_s - _AFTER_S))


def _until(end_s: float, timed: Iterable[tuple[float, av.AudioFrame]]) -> Iterator[tuple[float, av.AudioFrame]]:
  return itertools.takewhile(lambda piece: piece[0] <= end_s + _AFTER_S, timed)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[tuple[InputContainer, AudioStream | None, float]]:
  """The file, the sound that belongs to its main video, and the time at which that video begins [s]."""
  with opened(source) as (container, video):
    audio = container.streams.best("audio", related=video)
    if not isinstance(audio, AudioStream):
      audio = None
    elif audio.codec_context is None:
      raise VideoError("FFmpeg has no decoder for its sound")
    else:
      audio.codec_context.thread_type, audio.codec_context.thread_count = "NONE", 1
    yield container, audio, float((video.start_time or 0) * (video.time_base or 0))


def _seek(container: InputContainer, audio: AudioStream, time_s: float) -> bool:
  try:
    container.seek(int(time_s / (audio.time_base or 1)), stream=audio)
  except av.error.FFmpegError:
    return False
  return True


def _timed(
  container: InputContainer, audio: AudioStream, zero_s: float, strict_from_s: float
) -> Iterator[tuple[float, av.AudioFrame]]:
  """All pieces from the present position on; behind a seek, what a decoder cannot make sense of is passed over."""
  time_s = -math.inf
  for packet in packets(container, audio):
    try:
      frames = packet.decode()
    except av.error.FFmpegError:
      if time_s >= strict_from_s or packet.pts is None:
        raise
      continue
    for frame in frames:
      if frame.pts is not None:
        time_s = float(frame.pts * (frame.time_base or Fraction(1))) - zero_s
      elif math.isinf(time_s):
        time_s = 0.0
      yield time_s, frame
      time_s += frame.samples / frame.sample_rate


class _Run:
  """A stretch of sound without gaps, on its way through the resampler.

  Timestamps may be rounded or shake a little, so it is placed by the middle one of those of its pieces.
  """

  def __init__(self, rate_hz: int):
    self._resampler = AudioResampler("s16", "mono", rate_hz)
    self._kind: tuple[str, str, int] | None = None
    self._count = 0  # samples taken
    self._begins_s: list[float] = []  # where the stretch begins, as each piece has it
    self._chunks: list[np.ndarray] = []

  def add(self, time_s: float, frame: av.AudioFrame) -> bool:
    """Takes a piece, unless it is of another kind or does not follow the last one."""
    kind = frame.format.name, frame.layout.name, frame.sample_rate
    begin_s = time_s - self._count / frame.sample_rate
    if self._begins_s and (kind != self._kind or abs(begin_s - self._begins_s[0]) > _GAP_S):
      return False
    self._kind = kind
    self._count += frame.samples
    self._begins_s.append(begin_s)
    frame.pts = None  # gaps are filled here, not by the resampler
    self._resample(frame)
    return True

  def end(self) -> tuple[float, Int16[np.ndarray, " n"]]:
    """(time of the first sample [s], samples)."""
    self._resample(None)
    return float(np.median(self._begins_s)), np.concatenate([np.zeros(0, np.int16), *self._chunks])

  def _resample(self, frame: av.AudioFrame | None) -> None:
    self._chunks += [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]


def _runs(
  frames: Iterable[tuple[float, av.AudioFrame]], rate_hz: int
) -> Iterator[tuple[float, Int16[np.ndarray, " n"]]]:
  """(time of the first sample [s], samples) of stretches without gaps."""
  run = None
  for time_s, frame in frames:
    if run is None or not run.add(time_s, frame):
      if run is not None:
        yield run.end()
      run = _Run(rate_hz)
      run.add(time_s, frame)
  if run is not None:
    yield run.end()
