"""Encoded video -> frames: right pictures, order and colours, and one clear line for what is broken."""

import io
import math
import os
import pathlib
import wave
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from programs import LONG

from vu_jax.data.video.decode import VideoError, decode_frames, frame_rate, iterate_frames, probe
from vu_jax.data.video.h264 import is_disposable, length_size
from vu_jax.data.video.packets import opened, read_table
from vu_jax.data.video.picture import rgb_to_i420, scaled_size
from vu_jax.data.video.transcode import encode_video, transcode
from vu_jax.data.video.view import whole
from vu_jax.errors import UserError
from vu_jax.train.meter import memory


def moving(count: int = 40, height: int = 48, width: int = 64) -> np.ndarray:
  """Frames of which no two are alike: a window that slides over a smooth random picture."""
  noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
  scene = cv2.resize(noise, (width + count, height + count), interpolation=cv2.INTER_CUBIC)
  return np.stack([scene[i : i + height, i : i + width] for i in range(count)])


def write(
  path: pathlib.Path,
  frames: np.ndarray,
  codec: str = "libx264",
  *,
  times_ms: Sequence[int] | None = None,
  options: dict[str, str] | None = None,
  pix_fmt: str = "yuv420p",
  **context: Any,
) -> pathlib.Path:
  """Writes a foreign video, 25 frames per second or at the given times; `context` is set on the encoder."""
  rotation = context.pop("rotation", 0)
  with av.open(str(path), "w") as container:
    stream: Any = container.add_stream(codec, rate=25, options=options or {})
    stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
    for key, value in {"thread_count": 1, **context}.items():
      setattr(stream.codec_context, key, value)
    if times_ms is not None:
      stream.codec_context.time_base = Fraction(1, 1000)
    if rotation:
      stream.set_display_rotation(rotation)
    for number, rgb in enumerate(frames):
      picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(format=pix_fmt)
      picture.pts = number if times_ms is None else times_ms[number]
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return path


GOP = {"g": "12", "bf": "2"}
FOREIGN = {
  "h264.mp4": ("libx264", GOP),
  "open_gop.mkv": ("libx264", {"x264-params": "open-gop=1:keyint=12:min-keyint=4:bframes=3"}),
  "no_keyframes.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}),
  "no_timestamps.h264": ("libx264", GOP),
  "mpeg4.avi": ("mpeg4", GOP),
  "mpeg2.mpg": ("mpeg2video", GOP),
  "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
  "all_intra.mov": ("prores_ks", {}),
}


def packets_of(video: bytes) -> list[Any]:
  with av.open(io.BytesIO(video), "r") as container:
    return [packet for packet in container.demux(video=0) if packet.size]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  return 10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_a_stored_clip_has_the_frames_size_and_rate_that_went_in():
  """Encoding and decoding give back the clip: every frame decodable alone, in its place, looking the same."""
  frames = moving()
  stored = encode_video(frames, fps=29.97)
  info = probe(stored.video)
  assert (stored.num_frames, stored.height, stored.width, stored.fps) == (40, 48, 64, 29.97)
  assert (info.num_frames, info.height, info.width, info.codec, info.all_intra) == (40, 48, 64, "h264", True)
  assert info.fps == pytest.approx(29.97, rel=1e-4)
  decoded = decode_frames(stored.video, np.arange(40))
  assert min(psnr(a, b) for a, b in zip(decoded, frames, strict=True)) > 30
  distance = np.abs(decoded[:, None].astype(int) - frames[None]).mean(axis=(2, 3, 4))
  np.testing.assert_array_equal(distance.argmin(axis=1), np.arange(40))


def test_stored_clips_decode_only_the_packets_asked_for():
  """Ruining the packets of other frames must not change the frames that are asked for."""
  video = bytearray(encode_video(moving(), fps=25.0).video)
  wanted = np.array([3, 4, 17, 39])
  clean = decode_frames(bytes(video), wanted)
  places = [(packet.pos, packet.size) for packet in packets_of(bytes(video))]
  for number, (start, size) in enumerate(places):
    if number not in wanted and number > 0:
      video[start + 8 : start + size] = bytes(size - 8)
  np.testing.assert_array_equal(decode_frames(bytes(video), wanted), clean)


@pytest.mark.parametrize("name", FOREIGN)
def test_any_frames_equal_those_of_a_full_decode(name: str, tmp_path: pathlib.Path):
  """Which frames are asked for never changes what a frame looks like, whatever the codec and container."""
  codec, options = FOREIGN[name]
  pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
  path = write(tmp_path / name, moving(), codec, options=options, pix_fmt=pix_fmt)
  everything = [rgb for _, rgb in iterate_frames(path)]
  assert len(everything) == probe(path).num_frames == 40
  assert psnr(np.stack(everything), moving()) > 22
  rng = np.random.default_rng(1)
  for count in (1, 1, 2, 5, 9):
    wanted = np.sort(rng.integers(0, 40, count))  # with repeats
    for source in (path, path.read_bytes()):
      np.testing.assert_array_equal(decode_frames(source, wanted), [everything[i] for i in wanted])


def test_frames_are_counted_by_their_timestamps_not_by_the_nominal_rate(tmp_path: pathlib.Path):
  """With irregular timestamps frame 5 is the sixth picture, and times and rate are those of the file."""
  times_ms = np.cumsum(np.random.default_rng(0).integers(10, 90, 40)).tolist()
  path = write(tmp_path / "vfr.mkv", moving(), times_ms=times_ms, options=GOP)
  timed = list(iterate_frames(path))
  start_ms = times_ms[0]
  np.testing.assert_allclose([t for t, _ in timed], [(t - start_ms) / 1000 for t in times_ms], atol=1e-3)
  assert psnr(decode_frames(path, np.array([5]))[0], moving()[5]) > 25
  assert probe(path).fps == pytest.approx(39 / ((times_ms[-1] - start_ms) / 1000), rel=1e-3)


def test_frame_rate_by_hand():
  """Three steps in 0.3 s are 10 per second; a nominal rate counts within 1 %, or where times say nothing."""
  assert frame_rate([0.0, 0.1, 0.2, 0.3], Fraction(50)) == pytest.approx(10)
  assert frame_rate([0.0, 0.033, 0.067, 0.1], Fraction(30)) == 30
  assert frame_rate([0.0], Fraction(24)) == 24
  assert frame_rate([], None) == 25


def test_hidden_vp8_packets_are_not_frames(tmp_path: pathlib.Path):
  """A VP8 packet that is never shown, as its encoder makes for reference, takes no frame number."""
  path = write(tmp_path / "a.webm", moving(), "libvpx", options={"deadline": "realtime", "cpu-used": "8"})
  content = bytearray(path.read_bytes())
  content[content.index(bytes(packets_of(bytes(content))[10]))] &= ~0x10
  hidden = bytes(content)
  everything = [rgb for _, rgb in iterate_frames(hidden)]
  assert probe(hidden).num_frames == len(everything) == 39
  np.testing.assert_array_equal(decode_frames(hidden, np.array([9, 10, 38])), [everything[i] for i in (9, 10, 38)])


def test_a_span_gives_exactly_the_frames_in_it(tmp_path: pathlib.Path):
  """Frames with start <= time < end, the same pictures as without seeking; nothing beyond the end."""
  path = write(tmp_path / "a.mp4", moving(), options=GOP)  # 25 frames per second
  everything = dict(iterate_frames(path))
  part = dict(iterate_frames(path, start_s=0.6, end_s=1.0))
  np.testing.assert_allclose(list(part), np.arange(15, 25) / 25)
  for time_s, rgb in part.items():
    np.testing.assert_array_equal(rgb, everything[time_s])
  assert not list(iterate_frames(path, start_s=5.0))
  assert transcode(path, short_side=48, start_s=0.6, end_s=1.0).num_frames == 10
  with pytest.raises(VideoError, match="no frame from 5 s"):
    transcode(path, short_side=48, start_s=5.0)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_videos_come_out_upright(degrees: int, tmp_path: pathlib.Path):
  """A phone stores portrait video on its side with a note to turn it; the note is obeyed."""
  frames = moving(4)
  path = write(tmp_path / "a.mov", frames, options={"crf": "10"}, rotation=degrees)
  upright = np.rot90(frames, degrees // 90, axes=(1, 2))  # counter-clockwise, as the note says
  info = probe(path)
  assert (info.height, info.width) == upright.shape[1:3]
  assert psnr(decode_frames(path, np.arange(4)), upright) > 25
  assert psnr(next(iter(iterate_frames(path)))[1], upright[0]) > 25


def test_pixels_are_made_square(tmp_path: pathlib.Path):
  """Pixels of 2:1 double the width."""
  path = write(tmp_path / "a.mp4", moving(3), sample_aspect_ratio=Fraction(2, 1))
  assert (probe(path).height, probe(path).width) == (48, 128)
  decoded = decode_frames(path, np.array([1]))
  assert decoded.shape == (1, 48, 128, 3)
  assert psnr(decoded[0, :, ::2], moving(3)[1]) > 24


def test_sizes():
  """The short side is met, both sides are even, and the size of a view is obeyed."""
  assert scaled_size((240, 320), 128) == (128, 170)
  assert scaled_size((1920, 1080), 128) == (228, 128)
  assert scaled_size((48, 64), 96) == (96, 128)
  assert scaled_size((48, 64), 96, enlarge=False) == (48, 64)
  assert scaled_size((75, 101), 96, enlarge=False) == (74, 100)
  video = encode_video(moving(3), 25.0).video
  assert decode_frames(video, np.array([0, 0, 2]), whole(48, 64, (30, 21))).shape == (3, 30, 21, 3)
  assert next(iterate_frames(video, short_side=24))[1].shape == (24, 32, 3)
  assert (transcode(video, short_side=24).height, transcode(video, short_side=500).height) == (24, 48)


# Luma weights of red and blue, code of the matrix (ITU-T H.273), whether the range is full, bits.
COLOURS = {
  "bt601": (0.299, 0.114, 6, False, 8),
  "bt709": (0.2126, 0.0722, 1, False, 8),
  "bt709 full range": (0.2126, 0.0722, 1, True, 8),
  "bt709 10 bit": (0.2126, 0.0722, 1, False, 10),
  "bt2020 10 bit": (0.2627, 0.0593, 9, False, 10),
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_colours_follow_the_tags_of_the_stream(name: str, chroma: str, tmp_path: pathlib.Path):
  """Flat colours, put in as Y, Cb, Cr by the formulas of the standard, come out as the RGB they stand for."""
  red_weight, blue_weight, matrix, full, bits = COLOURS[name]
  colours = np.array([[255, 0, 0], [0, 160, 40], [30, 60, 220], [128, 128, 128], [250, 240, 200]])
  red, green, blue = colours.T / 255
  luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
  planes = [luma, (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)]
  dtype = np.uint8 if bits == 8 else np.uint16
  scales, offsets = ((255, 255, 255), (0, 128, 128)) if full else ((219, 224, 224), (16, 128, 128))
  codes = [
    np.round((plane * scale + offset) * 2 ** (bits - 8)).clip(0, 2**bits - 1).astype(dtype)
    for plane, scale, offset in zip(planes, scales, offsets, strict=True)
  ]
  path = tmp_path / "flat.mkv"
  pix_fmt = f"yuv{chroma}p" + ("10le" if bits == 10 else "")
  with av.open(str(path), "w") as container:
    stream = container.add_stream("ffv1", rate=25)
    stream.height, stream.width, stream.pix_fmt = 16, 16, pix_fmt
    stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
    for number in range(len(colours)):
      picture = av.VideoFrame(16, 16, pix_fmt)
      picture.pts, picture.colorspace, picture.color_range = number, matrix, 2 if full else 1
      for plane, code in zip(picture.planes, codes, strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(dtype).itemsize, code[number]).tobytes())
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  decoded = decode_frames(path, np.arange(len(colours)))
  np.testing.assert_allclose(decoded[:, 8, 8].astype(int), colours, atol=3)
  assert np.ptp(decoded.reshape(len(colours), -1, 3).astype(int), axis=1).max() <= 2


def test_i420_by_hand():
  """Red is Y 81, Cb 90, Cr 240 in BT.601; the colour of a block is the mean of its four pixels."""
  red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
  np.testing.assert_allclose(rgb_to_i420(red).ravel().astype(int), [81, 81, 81, 81, 90, 240], atol=1)
  half = red.copy()
  half[:, 1] = 0  # black: Cb and Cr 128
  np.testing.assert_allclose(rgb_to_i420(half).ravel().astype(int), [81, 16, 81, 16, 109, 184], atol=1)


def broken_files(folder: pathlib.Path) -> dict[str, Any]:
  good = encode_video(moving(), 25.0).video
  (folder / "empty.mp4").touch()
  (folder / "text.mp4").write_text("this is not a video\n" * 100)
  os.mkfifo(folder / "pipe.mp4")
  with wave.open(str(folder / "sound.wav"), "wb") as sound:
    sound.setparams((1, 2, 8000, 0, "NONE", ""))
    sound.writeframes(bytes(16000))
  (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
  paths = {name: folder / name for name in os.listdir(folder)}
  return paths | {
    "missing": folder / "no.mp4",
    "folder": folder,
    "no bytes": b"",
    "half": good[: len(good) // 2],
  }


def test_what_is_no_video_is_refused_in_one_line(tmp_path: pathlib.Path):
  """Whatever is given, the answer is a VideoError of one short line, at once; nothing crashes or hangs."""
  for name, source in broken_files(tmp_path).items():
    for read in (
      probe,
      lambda source: decode_frames(source, np.array([0])),
      lambda source: list(iterate_frames(source)),
      lambda source: transcode(source, short_side=32),
    ):
      with pytest.raises(VideoError) as caught:
        read(source)
      assert "\n" not in str(caught.value), name
      assert 5 < len(str(caught.value)) < 200, name


def test_damaged_streams_are_refused_when_transcoding(tmp_path: pathlib.Path):
  """A decoder hides flipped bits and a missing tail; the store must not."""
  video = bytearray(write(tmp_path / "a.mp4", moving(), options=GOP).read_bytes())
  packet = packets_of(bytes(video))[12]
  for place in range(packet.pos + 100, packet.pos + packet.size, 100):
    video[place] ^= 0xFF
  with pytest.raises(VideoError, match="damaged"):
    transcode(bytes(video), short_side=48)
  for name in ("b.mkv", "c.avi"):
    whole = write(tmp_path / name, moving(100), options={"g": "12", "bf": "0"}).read_bytes()
    transcode(whole, short_side=48)
    with pytest.raises(VideoError):
      transcode(whole[: len(whole) // 2], short_side=48)


def test_wrong_questions():
  """Frames that do not exist are the video's fault; frames out of order are the caller's."""
  video = encode_video(moving(5), 25.0).video
  with pytest.raises(VideoError, match="frame 5 was asked for, but there are 5 frames"):
    decode_frames(video, np.array([0, 5]))
  for frames in ([], [-1, 2], [3, 2], [[1, 2]]):
    with pytest.raises(ValueError, match="non-decreasing"):
      decode_frames(video, np.array(frames, int))
  with pytest.raises(UserError, match="even"):
    encode_video(np.zeros((2, 15, 16, 3), np.uint8), 25.0)
  with pytest.raises(UserError, match="at least one frame"):
    encode_video([], 25.0)
  with pytest.raises(UserError, match="one size"):
    encode_video([np.zeros((16, 16, 3), np.uint8), np.zeros((18, 16, 3), np.uint8)], 25.0)


def test_frames_that_no_other_needs_are_left_out(tmp_path):
  """Any few frames of a video with B-frames equal those of decoding all; a third of the packets is left out."""
  file = write(tmp_path / "b.mp4", moving(48), options={"g": "24", "bf": "3", "b-pyramid": "none"})
  whole_video = decode_frames(file, np.arange(48))
  with opened(file) as (container, stream):
    table = read_table(container, stream)
  assert 16 <= len(table.disposable) < 40
  assert not any(table.is_key[packet] for packet in table.disposable)
  rng = np.random.default_rng(0)
  for count in (1, 2, 5, 12):
    wanted = np.sort(rng.choice(48, count, replace=False))
    np.testing.assert_array_equal(decode_frames(file, wanted), whole_video[wanted])


def test_disposable_packets_by_hand():
  """A picture is disposable if none of its slices has a nal_ref_idc; other units do not count."""
  delimiter, slice_kept, slice_spare = (b"\x00\x00\x00\x02" + unit for unit in (b"\x09\xf0", b"\x41\x9a", b"\x01\x9a"))
  assert is_disposable(memoryview(delimiter + slice_spare + slice_spare), 4)
  assert not is_disposable(memoryview(delimiter + slice_spare + slice_kept), 4)
  assert not is_disposable(memoryview(delimiter), 4)
  assert not is_disposable(memoryview(slice_spare[:-1]), 4)  # cut off
  assert length_size(b"\x01\x64\x00\x1f\xff\xe1\x00") == 4
  assert length_size(b"\x00\x00\x00\x01\x67\x64\x00") == 0
  assert length_size(None) == 0


@pytest.mark.skipif(not LONG, reason="takes a minute; set VU_JAX_LONG=1")
def test_reading_parts_of_videos_keeps_no_memory(tmp_path: pathlib.Path):
  """A file that is left before its end leaves nothing behind: PyAV would keep 300 bytes, 6 MiB in all."""
  content = write(tmp_path / "a.mp4", moving(12)).read_bytes()

  def read(times: int) -> float:
    for _ in range(times):
      decode_frames(content, np.array([2, 3]))
    return memory()["host_mib"]

  read(500)  # the first look at the memory starts JAX
  before = read(500)
  assert read(20_000) - before < 1.5
