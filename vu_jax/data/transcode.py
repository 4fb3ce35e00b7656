"""Video -> the form in which clips are stored: small H.264 MP4 of which every frame can be decoded alone."""

import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8

from vu_jax.data.decode import frame_rate, iterate_frames
from vu_jax.data.packets import Source, VideoError, opened
from vu_jax.data.picture import Size, rgb_to_i420
from vu_jax.errors import UserError

Rgb = UInt8[np.ndarray, "H W 3"]
_TICK = Fraction(1, 90000)  # [s]; the frame rate is known only when the last frame has been read
# Measured on real clips of 170x128, at equal quality (35.1 dB): "superfast" 2.94 KiB and 0.7 ms per frame,
# "veryfast" 2.86 and 0.8, "fast" 2.74 and 2.0. All of them decode equally fast.
_OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "g": "1", "bf": "0", "x264-params": "threads=1"}
_LIMITED_RANGE, _BT601 = 1, 6  # codes of ITU-T H.273
_NOMINAL_FPS = 25  # the encoder's quality target depends on the frame rate; ours must not


@dataclass(frozen=True)
class Encoded:
  """A stored clip: MP4 bytes and what is in them; sides are even [px]."""

  video: bytes
  num_frames: int
  fps: float
  height: int
  width: int


def encode_video(frames: Iterable[Rgb], fps: float, crf: int = 18) -> Encoded:
  """Encodes frames as all-intra H.264 (BT.601 limited range, 4:2:0) in MP4.

  Args:
    frames: RGB, 0..255, all of one size with even sides; read once, one at a time.
    fps: frame rate [1/s].
    crf: quality, 0 (lossless but for the colour planes) to 51 (worst); 18 looks like the source.

  Raises:
    UserError: no frame, an odd side, or frames of different sizes.
  """
  return _encode(frames, lambda: fps, crf)


def transcode(
  source: Source, *, short_side: int, crf: int = 18, start_s: float = 0.0, end_s: float = math.inf
) -> Encoded:
  """Reads a video, or the part from start_s to end_s, and encodes it for the store.

  Args:
    source: content or path of a video file.
    short_side: length of the shorter side [px]; videos that are smaller keep their size (made even).
    crf: see `encode_video`.
    start_s, end_s: part that is kept [s from the start of the stream].

  Returns:
    The clip; its frame rate is that of the timestamps.

  Raises:
    VideoError: the video cannot be read, is damaged, or has no frame in that part.
  """
  times_s: list[float] = []

  def pictures() -> Iterator[Rgb]:
    found = iterate_frames(source, short_side=short_side, enlarge=False, start_s=start_s, end_s=end_s, strict=True)
    for time_s, rgb in found:
      times_s.append(time_s)
      yield rgb
    if not times_s:
      raise VideoError(f"no frame from {start_s:g} s to {end_s:g} s")

  with opened(source) as (_, stream):
    nominal = stream.average_rate
  return _encode(pictures(), lambda: frame_rate(times_s, nominal), crf)


def _encode(frames: Iterable[Rgb], fps: Callable[[], float], crf: int) -> Encoded:
  """`fps` is called after the last frame."""
  pictures = iter(frames)
  first = next(pictures, None)
  if first is None:
    raise UserError("a video needs at least one frame, got none")
  height, width = size = first.shape[:2]
  if height % 2 or width % 2:
    raise UserError(f"a stored video needs even sides, got {height} x {width} (height x width) px")
  content = io.BytesIO()
  with av.open(content, "w", format="mp4") as container:
    stream = container.add_stream("libx264", rate=_NOMINAL_FPS, time_base=_TICK, options=_OPTIONS | {"crf": str(crf)})
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.color_range, stream.codec_context.colorspace = _LIMITED_RANGE, _BT601
    stream.codec_context.thread_count = 1
    packets = list(_compressed(stream, itertools.chain([first], pictures), size))
    rate = fps()
    for number, packet in enumerate(packets):
      packet.pts = packet.dts = round(number / (rate * _TICK))
      packet.duration = round((number + 1) / (rate * _TICK)) - packet.pts
      container.mux(packet)
  return Encoded(content.getvalue(), len(packets), rate, height, width)


def _compressed(stream: VideoStream, frames: Iterable[Rgb], size: Size) -> Iterator[av.Packet]:
  for number, rgb in enumerate(frames):
    if rgb.shape[:2] != size:
      raise UserError(f"frames of one video have one size, got {size} and {rgb.shape[:2]} (height, width) px")
    picture = av.VideoFrame.from_ndarray(rgb_to_i420(rgb), format="yuv420p")
    picture.pts = round(number / (_NOMINAL_FPS * _TICK))
    yield from stream.encode(picture)
  yield from stream.encode(None)
