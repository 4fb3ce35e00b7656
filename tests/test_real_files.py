"""Real odd and broken files: every frame is that of a full decode at its timestamp; what cannot be read is one line."""

import csv
import pathlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from test_decode import moving, psnr, write

from vu_jax.data.video.decode import VideoError, decode_frames, iterate_frames, probe
from vu_jax.data.video.picture import ToRgb, displayed_size
from vu_jax.data.video.transcode import transcode
from vu_jax.data.video.view import show, whole, window_of

# Name: (height, width) as displayed [px], which is what the file is odd in.
WHOLE = {
  "examples__flipping_a_pancake.mkv": (240, 426),  # 150 frames from keyframe to keyframe
  "resources__SAR-2by3.mp4": (360, 427),  # pixels of 2:3
  "resources__embedded-image__h264-png.mkv": (360, 640),  # cover art, a timestamp that goes back, gaps
  "resources__test_yuv422p.mp4": (360, 640),
  "resources__testsrc-hevc.mp4": (360, 640),
  "resources__testsrc_with_attachment.mkv": (360, 640),  # starts at 0.023 s, with an attachment
  "resources__webvtt.mkv": (200, 300),  # subtitles
  "test__resources__av1_video.mkv": (360, 640),
  "test__resources__bt709_full_range.mp4": (720, 1280),
  "test__resources__h264_10bits.mp4": (200, 200),
  "test__resources__h265_10bits.mp4": (200, 200),
  "test__resources__h265_video.mp4": (128, 128),
  "test__resources__nasa_13013.mp4": (180, 320),  # two video streams, two of sound, two of subtitles
  "tests__test_data__unordered.mov": (50, 50),
  "tests__test_data__video_0.mov": (320, 568),
  "tests__test_data__video_90.mov": (568, 320),
  "tests__test_data__video_180.mov": (320, 568),
  "tests__test_data__video_270.mov": (568, 320),
}
DAMAGED = "tests__test_data__corrupted.mp4"  # the index speaks of 50 frames, 28 can be decoded


def full_decode(path: pathlib.Path) -> tuple[list[float], list[av.VideoFrame], Fraction | None]:
  """Times since the start of the first stream [s], its pictures up to the first error, width / height of a pixel."""
  times, pictures = [], []
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    try:
      for picture in container.decode(stream):
        times.append(float((picture.pts - stream.start_time) * stream.time_base))
        pictures.append(picture)
    except av.error.InvalidDataError:
      assert path.name == DAMAGED
    return times, pictures, stream.sample_aspect_ratio


def by_formula(picture: av.VideoFrame) -> np.ndarray:
  """RGB by the formulas of ITU-R BT.601 and BT.709, upright; all pixels of a block have its colour."""
  bits = picture.format.components[0].bits
  planes = []
  for plane in picture.planes:
    codes = np.frombuffer(plane, np.uint8 if bits == 8 else np.dtype("<u2"))
    rows = codes.reshape(plane.height, -1)[:, : plane.width] / 2.0 ** (bits - 8)
    planes.append(rows.repeat(picture.height // plane.height, 0).repeat(picture.width // plane.width, 1))
  is_full = picture.color_range == 2
  red_weight, blue_weight = (0.2126, 0.0722) if picture.colorspace == 1 else (0.299, 0.114)
  luma = planes[0] / 255 if is_full else (planes[0] - 16) / 219
  blue, red = (
    luma + (plane - 128) / (255 if is_full else 224) * (2 - 2 * weight)
    for plane, weight in zip(planes[1:], (blue_weight, red_weight), strict=True)
  )
  green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
  rgb = 255 * np.stack([red, green, blue], axis=-1).clip(0, 1)
  return np.rot90(rgb, round(picture.rotation / 90))


def by_us(picture: av.VideoFrame, pixel_aspect: Fraction | None) -> np.ndarray:
  """RGB of one picture as `iterate_frames` converts it."""
  size = displayed_size(picture, pixel_aspect)
  view, rgb = whole(*size), np.empty((*size, 3), np.uint8)
  show(view, ToRgb()(picture, partial(window_of, view)), rgb)
  return rgb


def test_all_files_are_listed_here(shared_data: pathlib.Path):
  """Every file of the folder that has a video is in one of the lists."""
  with (shared_data / "robustness" / "probe.csv").open() as file:
    videos = {row["file"] for row in csv.DictReader(file) if row["vcodec"]}
  assert videos == {*WHOLE, DAMAGED}


@pytest.mark.parametrize("name", WHOLE)
def test_frames_of_real_files_are_those_of_a_full_decode(name: str, shared_data: pathlib.Path):
  """Number, times and size; bit by bit the pixels of a full decode, and by the formulas the right colours."""
  path = shared_data / "robustness" / name
  times, pictures, pixel_aspect = full_decode(path)
  info, timed = probe(path), list(iterate_frames(path, strict=True))
  assert len(timed) == len(pictures) == info.num_frames
  np.testing.assert_allclose([time_s for time_s, _ in timed], np.maximum.accumulate(times), atol=1e-9)
  assert timed[0][1].shape == (info.height, info.width, 3) == (*WHOLE[name], 3)
  for number in range(0, len(pictures), 1 + len(pictures) // 12):
    np.testing.assert_array_equal(timed[number][1], by_us(pictures[number], pixel_aspect))
  for number in (0, len(pictures) - 1):
    expected = by_formula(pictures[number])
    if expected.shape[:2] != WHOLE[name]:  # pixels that are not square
      expected = cv2.resize(expected, WHOLE[name][::-1], interpolation=cv2.INTER_AREA)
    error = timed[number][1] - expected
    assert np.median(np.abs(error)) < 1.6
    assert np.abs(error.mean(axis=(0, 1))).max() < 2.1  # FFmpeg's fast conversion cuts fractions off
  rng = np.random.default_rng(0)
  for source, count in ((path, 6), (path.read_bytes(), 1)):
    wanted = np.sort(rng.integers(0, len(timed), count))
    np.testing.assert_array_equal(decode_frames(source, wanted), [timed[i][1] for i in wanted])


def test_a_damaged_file_gives_its_whole_pictures(shared_data: pathlib.Path):
  """Each picture before the damage can be read, and is right; what lies behind it, and storing it, is refused."""
  path = shared_data / "robustness" / DAMAGED
  _, pictures, _ = full_decode(path)
  assert len(pictures) == 28
  wanted = np.array([0, 13, 27])
  for number, rgb in zip(wanted, decode_frames(path, wanted), strict=True):
    assert np.median(np.abs(rgb - by_formula(pictures[number]))) < 1.6
  with pytest.raises(VideoError, match="damaged"):
    decode_frames(path, np.array([27, 35]))
  for store in ("intra", "source"):
    with pytest.raises(VideoError, match="damaged"):
      transcode(path, short_side=128, store=store)


READERS: list[Callable[[Any], Any]] = [
  probe,
  lambda path: decode_frames(path, np.array([0])),
  lambda path: list(iterate_frames(path)),
  lambda path: transcode(path, short_side=32),
]


def test_files_without_a_video_are_refused_in_one_line(shared_data: pathlib.Path):
  """Sound files and a table."""
  files = [f for f in (shared_data / "robustness").iterdir() if f.suffix in (".wav", ".mp3", ".csv")]
  assert len(files) == 7
  for path in files:
    for reader in READERS:
      with pytest.raises(VideoError, match=r"no video|not a video") as caught:
        reader(path)
      assert "\n" not in str(caught.value)


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_stream_is_the_video(default: int, tmp_path: pathlib.Path):
  """Of two video streams the one that the file calls default is read."""
  path, frames = tmp_path / "two.mkv", [moving(3), moving(3)[:, ::-1]]
  single = [write(tmp_path / f"{n}.mkv", video) for n, video in enumerate(frames)]
  with av.open(str(path), "w") as container, av.open(str(single[0])) as first, av.open(str(single[1])) as second:
    streams = [container.add_stream_from_template(source.streams.video[0]) for source in (first, second)]
    for number, stream in enumerate(streams):
      stream.disposition = Disposition.default if number == default else Disposition(0)
    for source, stream in zip((first, second), streams, strict=True):
      for packet in source.demux(video=0):
        if packet.size:
          packet.stream = stream
          container.mux(packet)
  found = decode_frames(path, np.arange(3))
  assert psnr(found, frames[default]) > 24 > psnr(found, frames[1 - default])
