"""A video file as packets: opening it safely, which packet holds which frame, decoding only those needed."""

import bisect
import contextlib
import io
import itertools
import math
import pathlib
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vu_jax.data.video.h264 import is_disposable, length_size
from vu_jax.data.video.sample_table import SampleTable

Source = bytes | pathlib.Path
_COVER_ART = Disposition.attached_pic | Disposition.timed_thumbnails
_VP8_SHOWN = 0x10  # RFC 6386, section 9.1: without this bit a packet makes a reference picture, not a frame


class VideoError(ValueError):
  """A video that cannot be read. The message is a reason of one line and does not name the video."""


@contextlib.contextmanager
def opened(source: Source, strict: bool = False) -> Iterator[tuple[InputContainer, VideoStream]]:
  """Opens a video and its main video stream; every FFmpeg error inside becomes a `VideoError`.

  Of several streams, the first that the file calls default is taken, as players do, else the first; never cover art.

  Decoding is single-threaded: callers decode many videos side by side.

  Args:
    source: content or path of a video file.
    strict: True = the decoder refuses damaged data instead of hiding it.
  """
  # A playlist must not make FFmpeg fetch something from elsewhere; odd tags are no reason to refuse a video.
  options = {"protocol_whitelist": "file"}
  try:
    with av.open(_input(source), "r", options=options, metadata_errors="ignore") as container:
      yield container, _video_stream(container, strict)
  except (av.error.FFmpegError, OSError, MemoryError, UnicodeError) as error:
    raise VideoError(_reason(error)) from error


def packets(container: InputContainer, stream: Stream) -> Iterator[Any]:
  """All packets (`av.Packet`) of a stream from the present position on.

  Left early, it closes `demux`, which else keeps 300 bytes for ever (PyAV 18.1).
  """
  yield from container.demux(stream)


def decoded(container: InputContainer, stream: VideoStream, strict: bool = False) -> Iterator[av.VideoFrame]:
  """All pictures from the present position on, in display order; strict refuses damaged and missing ones."""
  end = 0
  for packet in packets(container, stream):
    end = max(end, (packet.pts or 0) + (packet.duration or 0), packet.dts or 0)
    for picture in packet.decode():
      if strict and (packet.is_corrupt or picture.is_corrupt):
        raise VideoError("damaged: a picture cannot be decoded without error")
      yield picture
  if strict and _ends_early(stream, end):
    raise VideoError("cut off: the file ends before its last picture")


def _ends_early(stream: VideoStream, end: int) -> bool:
  """Whether more must follow after the time `end` [ticks], by the index (MP4, AVI) or by a tag (Matroska)."""
  index = stream.index_entries
  tag = re.fullmatch(r"(\d+):(\d+):(\d+)\.\d*", stream.metadata.get("DURATION", ""))
  if tag and stream.time_base:
    hours, minutes, seconds = map(int, tag.groups())
    return hours * 3600 + minutes * 60 + seconds > end * stream.time_base + 0.5
  return len(index) > 0 and index[-1].timestamp > end


@dataclass(frozen=True)
class Table:
  """What the packets of a stream say; packets are numbered as in the file, which is decoding order."""

  pts: list[int]  # presentation times [ticks]; empty if not regular
  seek: list[int]  # a time not after the packet in either order [ticks]; empty if not regular
  is_key: list[bool]
  shown: list[int]  # packets of the frames in display order: frame number -> packet number
  regular: bool  # every packet has a time of its own
  disposable: frozenset[int] = frozenset()  # packets of frames that no other frame needs


def read_table(container: InputContainer, stream: VideoStream) -> Table:
  """Reads all packets without decoding.

  Raises:
    VideoError: the stream has no frames.
  """
  facts = list(_facts(container, stream))
  shown = [number for number, (_, _, _, is_shown, _) in enumerate(facts) if is_shown]
  if not shown:
    raise VideoError("it has no frames")
  pts, seek, is_key, _, spare = map(list, zip(*facts, strict=True))
  if None in pts or len(set(pts)) < len(pts):
    return Table([], [], is_key, shown, regular=False)
  disposable = frozenset(number for number, is_spare in enumerate(spare) if is_spare)
  return Table(pts, seek, is_key, sorted(shown, key=pts.__getitem__), regular=True, disposable=disposable)


def picked(
  container: InputContainer, stream: VideoStream, table: Table, frames: list[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
  """Decodes (frame number, picture) of the frames with the given, increasing numbers; others come along.

  Ends early where the decoder contradicts the table; the caller then counts pictures from the beginning.
  """
  if not table.regular:
    return
  times = [table.pts[packet] for packet in table.shown]
  packet_at = {time: packet for packet, time in enumerate(table.pts)}
  with contextlib.suppress(av.error.FFmpegError):
    for first, needed, expected in _plan(table, times, frames):
      container.seek(table.seek[first], stream=stream)
      pictures = _fed(container, stream, packet_at, first, needed)
      for frame, picture in zip(expected, _from(times[expected[0]], pictures), strict=False):
        if picture.pts != times[frame]:
          return
        yield frame, picture


def alone(content: bytes, table: SampleTable, frames: Iterable[int]) -> Iterator[av.VideoFrame]:
  """Decodes single frames of an MP4 file of keyframes, in the given, rising order."""
  decoder = av.CodecContext.create("h264", "r")
  assert isinstance(decoder, av.VideoCodecContext)
  decoder.extradata, decoder.thread_count = table.extradata, 1
  for frame in frames:
    start = int(table.starts[frame])
    yield from decoder.decode(av.Packet(content[start : start + int(table.sizes[frame])]))
  yield from decoder.decode(None)


def _plan(table: Table, times: list[int], frames: list[int]) -> Iterator[tuple[int, Container, Sequence]]:
  """Runs of decoding: (first packet, packets to decode, frames that must come out)."""
  if all(table.is_key):
    needed = {table.shown[frame] for frame in frames}
    yield min(needed), needed, frames
    return
  keys = sorted((table.pts[packet], packet) for packet, is_key in enumerate(table.is_key) if is_key)
  for key, group in itertools.groupby(frames, lambda frame: bisect.bisect(keys, (times[frame], math.inf)) - 1):
    if key < 0:
      return  # shown before the first keyframe
    time, packet = keys[key]
    wanted = list(group)
    # About half of the frames of an ordinary H.264 video are there for themselves alone.
    dropped = table.disposable.difference(table.shown[frame] for frame in wanted)
    until_last = range(bisect.bisect_left(times, time), wanted[-1] + 1)
    needed = set(range(packet, len(table.pts))) - dropped
    yield packet, needed, [frame for frame in until_last if table.shown[frame] not in dropped]


def _from(time: int, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
  """Without the pictures before a time: after a seek they may lack what they refer to."""
  return itertools.dropwhile(lambda picture: picture.pts is not None and picture.pts < time, pictures)


def _fed(
  container: InputContainer,
  stream: VideoStream,
  packet_at: dict[int, int],
  first: int,
  needed: Container[int],
) -> Iterator[av.VideoFrame]:
  """Decodes the needed packets; nothing, if the container is positioned after the first of them."""
  for count, packet in enumerate(packets(container, stream)):
    number = None if packet.pts is None else packet_at.get(packet.pts)
    if packet.size and (number is None or (count == 0 and number > first)):
      return
    if not packet.size or number in needed:
      yield from packet.decode()


def _facts(container: InputContainer, stream: VideoStream) -> Iterator[tuple[int | None, int | None, bool, bool, bool]]:
  """(presentation time, time to seek to, is a keyframe, is shown, is disposable) of every packet."""
  size_bytes = length_size(stream.codec_context.extradata) if stream.codec_context.name == "h264" else 0
  is_vp8 = stream.codec_context.name in ("vp8", "libvpx")
  for packet in packets(container, stream):
    if packet.size:
      stamps = [stamp for stamp in (packet.pts, packet.dts) if stamp is not None]
      is_shown = not packet.is_discard and not (is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN)
      is_spare = size_bytes > 0 and is_disposable(memoryview(packet), size_bytes)
      yield packet.pts, min(stamps, default=None), packet.is_keyframe, is_shown, is_spare


def _input(source: Source) -> io.BytesIO | str:
  if isinstance(source, bytes):
    if not source:
      raise VideoError("empty: it has no bytes")
    return io.BytesIO(source)
  if not source.exists():
    raise VideoError("there is no such file")
  if not source.is_file():
    raise VideoError("it is not a file")  # opening a pipe would wait for ever
  if source.stat().st_size == 0:
    raise VideoError("empty: it has no bytes")
  return f"file:{source}"  # or FFmpeg reads a name with a colon as a protocol


def _video_stream(container: InputContainer, strict: bool) -> VideoStream:
  real = [stream for stream in container.streams.video if not stream.disposition & _COVER_ART]
  stream = max(real, key=lambda stream: bool(stream.disposition & Disposition.default), default=None)  # or the first
  if stream is None:
    raise VideoError("there is no video in it")
  if stream.codec_context is None:
    raise VideoError("FFmpeg has no decoder for its codec")
  stream.thread_type = "NONE"
  stream.codec_context.thread_count = 1
  if strict:
    stream.codec_context.options = {"err_detect": "explode"}
  return stream


def _reason(error: Exception) -> str:
  text = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
  return f"not a video that FFmpeg can read, or damaged ({text[:120]})"
