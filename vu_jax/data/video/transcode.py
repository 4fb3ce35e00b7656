"""Video -> the forms in which clips are stored; `stores` says which there are, and reads them."""

import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8

from vu_jax.data.clips_time import second_line, uneven_times
from vu_jax.data.video.decode import frame_rate, iterate_frames
from vu_jax.data.video.packets import Source, VideoError, opened
from vu_jax.data.video.picture import Size, rgb_to_i420
from vu_jax.data.video.sample_table import MARK
from vu_jax.data.video.stores import Store, decode_clip, encode_jpeg_row
from vu_jax.data.video.view import whole
from vu_jax.errors import UserError

Rgb = UInt8[np.ndarray, "H W 3"]
Timing: TypeAlias = tuple[float, tuple[float, ...]]  # frames per second; times as in `Encoded`
_TICK = Fraction(1, 90000)  # [s]; the frame rate is known only when the last frame has been read
# Measured on real clips of 170x128, at equal quality (35.1 dB): "superfast" 2.94 KiB and 0.7 ms per frame,
# "veryfast" 2.86 and 0.8, "fast" 2.74 and 2.0. All of them decode equally fast.
_OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "g": "1", "bf": "0", "x264-params": "threads=1"}
_LIMITED_RANGE, _BT601 = 1, 6  # codes of ITU-T H.273
_NOMINAL_FPS = 25  # the encoder's quality target depends on the frame rate; ours must not


@dataclass(frozen=True)
class Encoded:
  """A stored clip and what is in it.

  video: encoded bytes, or the pixels in a row for the store "raw". height, width: as shown, upright [px].
  times_s: when each frame begins since the first one [s]; empty where `fps` says it.
  first_s: when the first frame begins in the video that it was made from [s].
  audio: its sound (`vu_jax.data.audio.store`); empty if there is none, or none is wanted.
  psnr_db: of one frame, against the frame that was stored; infinite where nothing is lost, or not measured.
  """

  video: bytes = field(repr=False)
  num_frames: int
  fps: float
  height: int
  width: int
  times_s: tuple[float, ...] = field(default=(), repr=False)
  first_s: float = 0.0
  audio: bytes = field(default=b"", repr=False)
  psnr_db: float = math.inf


def encode_video(frames: Iterable[Rgb], fps: float, crf: int = 18) -> Encoded:
  """Encodes frames as all-intra H.264 (BT.601 limited range, 4:2:0) in MP4.

  Args:
    frames: RGB, 0..255, all of one size with even sides; read once, one at a time.
    fps: frame rate [1/s].
    crf: quality, 0 (lossless but for the colour planes) to 51 (worst); 18 looks like the source.

  Raises:
    UserError: no frame, an odd side, or frames of different sizes.
  """
  return _encode(frames, lambda: (fps, ()), crf)


def transcode(
  source: Source,
  *,
  short_side: int,
  crf: int = 18,
  start_s: float = 0.0,
  end_s: float = math.inf,
  store: Store = "intra",
) -> Encoded:
  """Reads a video, or the part from start_s to end_s, and encodes it for the store.

  Args:
    source: content or path of a video file.
    short_side: length of the shorter side [px]; videos that are smaller keep their size (made even).
    crf: see `encode_video`.
    start_s, end_s: part that is kept [s from the start of the stream].
    store: form of the result; "source" keeps size and bytes, so `short_side` and `crf` say nothing there.

  Returns:
    The clip, with the timestamps of the video; its frame rate is their mean.

  Raises:
    VideoError: the video cannot be read, is damaged, has no frame in that part, or is to be kept as it is in part.
  """
  if store == "source":
    return _kept(source, start_s, end_s)
  times_s: list[float] = []
  sample: dict[int, Rgb] = {}

  def pictures() -> Iterator[Rgb]:
    found = iterate_frames(source, short_side=short_side, enlarge=False, start_s=start_s, end_s=end_s, strict=True)
    for number, (time_s, rgb) in enumerate(found):
      times_s.append(time_s)
      if number & (number - 1) == 0:  # the last of them lies in the second half, however long the video is
        sample.clear()
        sample[number] = rgb
      yield rgb
    if not times_s:
      raise VideoError(f"no frame from {start_s:g} s to {end_s:g} s")

  with opened(source) as (_, stream):
    nominal = stream.average_rate

  def timing() -> Timing:
    return _timing(times_s, nominal)

  encoded = _encode(pictures(), timing, crf) if store == "intra" else _in_a_row(pictures(), timing, store)
  encoded = replace(encoded, first_s=times_s[0])
  if store == "raw":
    return encoded
  ((number, rgb),) = sample.items()
  again = decode_clip(encoded.video, np.array([number]), whole(*rgb.shape[:2]))[0]
  return replace(encoded, psnr_db=psnr_db(rgb, again))


def psnr_db(a: Rgb, b: Rgb) -> float:
  """Peak signal-to-noise ratio of two pictures of full scale 255 [dB]; infinite if they are equal."""
  error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2))
  return 10 * math.log10(255**2 / error) if error else math.inf


def _timing(times_s: Sequence[float], nominal: Fraction | None) -> Timing:
  fps = frame_rate(times_s, nominal)
  return fps, uneven_times(times_s, fps)


def _in_a_row(pictures: Iterator[Rgb], timing: Callable[[], Timing], store: Store) -> Encoded:
  """Every frame by itself: JPEG pictures or pixels."""
  sizes: list[Size] = []

  def counted() -> Iterator[Rgb]:
    for rgb in pictures:
      sizes.append(rgb.shape[:2])
      yield rgb

  video = encode_jpeg_row(counted()) if store == "jpeg" else b"".join(rgb.tobytes() for rgb in counted())
  fps, times_s = timing()
  return Encoded(video, len(sizes), fps, *sizes[0], times_s)


def _kept(source: Source, start_s: float, end_s: float) -> Encoded:
  """The bytes as they are, once they are known to decode."""
  if start_s > 0 or end_s < math.inf:
    raise VideoError('only a part of it is the clip, and the store "source" keeps files whole: take "intra"')
  facts = [(time_s, rgb.shape[:2]) for time_s, rgb in iterate_frames(source, strict=True)]
  if not facts:
    raise VideoError("it has no frames")
  with opened(source) as (_, stream):
    fps, times_s = _timing([time_s for time_s, _ in facts], stream.average_rate)
  content = source if isinstance(source, bytes) else source.read_bytes()
  first_s, (height, width) = facts[0]
  return Encoded(content, len(facts), fps, height, width, times_s, first_s)


def _encode(frames: Iterable[Rgb], timing: Callable[[], Timing], crf: int) -> Encoded:
  """`timing` is called after the last frame."""
  pictures = iter(frames)
  first = next(pictures, None)
  if first is None:
    raise UserError("a video needs at least one frame, got none")
  height, width = size = first.shape[:2]
  if height % 2 or width % 2:
    raise UserError(f"a stored video needs even sides, got {height} x {width} (height x width) px")
  content = io.BytesIO()
  with av.open(content, "w", format="mp4") as container:
    container.metadata["comment"] = MARK
    stream = container.add_stream("libx264", rate=_NOMINAL_FPS, time_base=_TICK, options=_OPTIONS | {"crf": str(crf)})
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.color_range, stream.codec_context.colorspace = _LIMITED_RANGE, _BT601
    stream.codec_context.thread_count = 1
    packets = list(_compressed(stream, itertools.chain([first], pictures), size))
    fps, times_s = timing()
    starts = _ticks(len(packets), fps, times_s)
    for packet, start, end in zip(packets, starts, starts[1:], strict=False):
      packet.pts, packet.dts, packet.duration = start, start, end - start
      container.mux(packet)
  return Encoded(content.getvalue(), len(packets), fps, height, width, times_s)


def _ticks(num_frames: int, fps: float, times_s: Sequence[float]) -> list[int]:
  """When each frame begins, and the last one ends; increasing, but not by hours at once, as files want it."""
  if times_s:
    line = second_line(num_frames, fps, np.array(times_s))
    edges_s = np.append(line.starts, line.end)
  else:
    edges_s = np.arange(num_frames + 1) / fps
  ticks = np.round(edges_s / float(_TICK)).astype(np.int64)
  return [0, *np.cumsum(np.clip(np.diff(ticks), 1, 2**31 - 1)).tolist()]


def _compressed(stream: VideoStream, frames: Iterable[Rgb], size: Size) -> Iterator[av.Packet]:
  for number, rgb in enumerate(frames):
    if rgb.shape[:2] != size:
      raise UserError(f"frames of one video have one size, got {size} and {rgb.shape[:2]} (height, width) px")
    picture = av.VideoFrame.from_ndarray(rgb_to_i420(rgb), format="yuv420p")
    picture.pts = round(number / (_NOMINAL_FPS * _TICK))
    yield from stream.encode(picture)
  yield from stream.encode(None)
