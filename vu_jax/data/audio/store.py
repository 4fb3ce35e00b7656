"""How the sound of a clip is stored, and how a stretch of it is read without decoding the rest.

A record holds FLAC frames, of a quarter of a second each at 16 kHz; each decodes alone and loses nothing. In front of
them is what FLAC itself would not say: where the sound begins on the clock of the pictures, and where each frame lies.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler
from jaxtyping import Float32, Int16

from vu_jax.data.audio.track import Track, read_track
from vu_jax.data.clips_time import second_line
from vu_jax.data.video.packets import Source, VideoError
from vu_jax.data.video.transcode import Encoded

_MARK = b"FLACROW1"
_HEAD = struct.Struct("<IIqQI")  # rate, samples per frame, first sample, samples, frames; then their ends (uint32)
_BLOCK = 4096
_FILTER_S = 0.01  # of the resampler, generously


@dataclass(frozen=True)
class Sound:
  """A stretch of sound; `samples[first:last]` are the track's, the others are silence around it.

  samples: full scale is -1 to 1.
  """

  samples: Float32[np.ndarray, " S"]
  first: int
  last: int


def stored_sound(source: Source, encoded: Encoded, rate_hz: int) -> bytes:
  """What a record holds of the sound beside the pictures that are stored of a video; raises its `VideoError`."""
  times_s = np.array(encoded.times_s) if encoded.times_s else None
  span_s = second_line(encoded.num_frames, encoded.fps, times_s).end
  return encode_track(read_track(source, rate_hz, encoded.first_s, span_s))


def encode_track(track: Track | None) -> bytes:
  """What a record holds of a track; empty if there is none."""
  if track is None:
    return b""
  coder = av.CodecContext.create("flac", "w")
  assert isinstance(coder, av.AudioCodecContext)
  coder.sample_rate, coder.layout, coder.format = track.rate_hz, "mono", "s16"
  coder.time_base, coder.options = Fraction(1, track.rate_hz), {"frame_size": str(_BLOCK)}
  packets = [bytes(packet) for packet in _compressed(coder, track) if packet.size]
  ends = np.cumsum([len(packet) for packet in packets], dtype="<u4")
  head = _HEAD.pack(track.rate_hz, _BLOCK, track.first, len(track.samples), len(packets))
  return b"".join([_MARK, head, ends.tobytes(), *packets])


def read_sound(content: bytes, start_s: float, rate_hz: int, count: int) -> Sound:
  """A stretch of a stored track; resampled, if another rate is stored, just as the whole track would be.

  Args:
    content: of a record.
    start_s: first moment since the clip's first frame [s]; may lie before it.
    rate_hz: samples per second.
    count: samples.

  Raises:
    VideoError: the record is damaged, or empty.
  """
  if content[: len(_MARK)] != _MARK:
    raise VideoError("it has no sound" if not content else "damaged: its sound cannot be read")
  stored_hz, *_ = _HEAD.unpack_from(content, len(_MARK))
  start = round(start_s * rate_hz)
  if stored_hz == rate_hz:
    samples, first, last = _read(content, start, count)
    return Sound(samples.astype(np.float32) / 32768, first, last)
  # Stored sample `step * n` lies at the same moment as sample `phase * n` of the stretch.
  common = math.gcd(stored_hz, rate_hz)
  step, phase = stored_hz // common, rate_hz // common
  margin = math.ceil(_FILTER_S * rate_hz)
  begin = (start - margin) // phase
  periods = -((start + count + margin) // -phase) - begin
  samples, first, last = _read(content, begin * step, periods * step)
  at = start - begin * phase
  inside = [min(max(-(edge * phase // -step) - at, 0), count) for edge in (first, last)]
  return Sound(_resampled(samples, stored_hz, rate_hz)[at : at + count], *inside)


def _compressed(coder: av.AudioCodecContext, track: Track) -> Iterator[av.Packet]:
  for start in range(0, len(track.samples), _BLOCK):
    frame = av.AudioFrame.from_ndarray(track.samples[None, start : start + _BLOCK], format="s16", layout="mono")
    frame.sample_rate, frame.pts = track.rate_hz, start
    yield from coder.encode(frame)
  yield from coder.encode(None)


def _read(content: bytes, start: int, count: int) -> tuple[Int16[np.ndarray, " S"], int, int]:
  """Samples at the stored rate, silent outside of the track, and which of them are not."""
  _, block, begins, length, frames = _HEAD.unpack_from(content, len(_MARK))
  samples = np.zeros(count, np.int16)
  first = min(max(start, begins), start + count)
  last = max(min(start + count, begins + length), first)
  if last > first:
    number, stop = (first - begins) // block, -((last - begins) // -block)
    decoded = _decoded(content, number, stop, frames)
    skipped = first - begins - number * block
    if len(decoded) < skipped + last - first:
      raise VideoError("damaged: its sound cannot be decoded")
    samples[first - start : last - start] = decoded[skipped : skipped + last - first]
  return samples, first - start, last - start


def _decoded(content: bytes, number: int, stop: int, frames: int) -> Int16[np.ndarray, " n"]:
  """All samples of the FLAC frames from one number to before another."""
  at = len(_MARK) + _HEAD.size
  ends = np.frombuffer(content, "<u4", frames, at).astype(np.int64) + at + 4 * frames
  starts = np.append(at + 4 * frames, ends[:-1])
  decoder = av.CodecContext.create("flac", "r")
  assert isinstance(decoder, av.AudioCodecContext)
  decoder.thread_count = 1
  try:
    packets = [av.Packet(content[a:b]) for a, b in zip(starts[number:stop], ends[number:stop], strict=True)]
    pieces = [frame.to_ndarray()[0] for packet in [*packets, None] for frame in decoder.decode(packet)]
  except (av.error.FFmpegError, ValueError) as error:
    raise VideoError("damaged: its sound cannot be decoded") from error
  return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def _resampled(samples: Int16[np.ndarray, " n"], from_hz: int, to_hz: int) -> Float32[np.ndarray, " m"]:
  resampler = AudioResampler("flt", "mono", to_hz)
  frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
  frame.sample_rate = from_hz
  pieces = [piece.to_ndarray()[0] for given in (frame, None) for piece in resampler.resample(given)]
  return np.concatenate(pieces)
