"""The stored forms: each gives the same view of the same frames as decoding everything would."""

import contextlib
import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decode import moving, write

from vu_jax.data.video.decode import decode_frames
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.sample_table import MARK, read_sample_table
from vu_jax.data.video.stores import append_pixels, decode_clip, encode_jpeg_row, mapped_pixels
from vu_jax.data.video.transcode import Encoded, psnr_db, transcode
from vu_jax.data.video.view import View, see, whole

FRAMES = moving(12)
HEIGHT, WIDTH = FRAMES.shape[1:3]


@st.composite
def views(draw):
  """Windows with even and odd corners and sides, shown as they are, smaller or larger, mirrored or not."""
  height, width = draw(st.integers(1, HEIGHT)), draw(st.integers(1, WIDTH))
  top, left = draw(st.integers(0, HEIGHT - height)), draw(st.integers(0, WIDTH - width))
  size = draw(st.sampled_from([(height, width), (16, 16), (60, 70)]))
  return View((HEIGHT, WIDTH), top, left, height, width, size, draw(st.booleans()))


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> dict[str, Encoded]:
  """The same video in every form; its frames are not shrunk."""
  file = write(tmp_path_factory.mktemp("stores") / "clip.mp4", FRAMES, options={"crf": "10"})
  return {store: transcode(file, short_side=HEIGHT, store=store) for store in ("intra", "jpeg", "source", "raw")}


def content(encoded: Encoded, store: str):
  shape = (encoded.num_frames, encoded.height, encoded.width, 3)
  return np.frombuffer(encoded.video, np.uint8).reshape(shape) if store == "raw" else encoded.video


@pytest.mark.parametrize("store", ["intra", "jpeg", "source", "raw"])
@settings(max_examples=15)
@given(view=views(), frames=st.lists(st.integers(0, 11), min_size=1, max_size=4).map(sorted))
def test_a_view_is_cut_from_whole_frames(stored, store, view, frames):
  """Converting only the window gives, pixel by pixel, what cutting it from the converted frame gives."""
  video = content(stored[store], store)
  everything = decode_clip(video, np.arange(12), whole(HEIGHT, WIDTH))
  np.testing.assert_array_equal(decode_clip(video, np.array(frames), view), see(everything[frames], view))


@pytest.mark.parametrize(("store", "least_db"), [("intra", 31), ("jpeg", 29), ("raw", np.inf), ("source", np.inf)])
def test_what_is_lost(stored, store, least_db):
  """Against the decoded source, saturated colours at 4:2:0: pixels and source lose nothing; one frame is measured."""
  encoded = stored[store]
  assert (encoded.num_frames, encoded.fps, encoded.height, encoded.width) == (12, 25.0, HEIGHT, WIDTH)
  source = decode_frames(stored["source"].video, np.arange(12))
  found = decode_clip(content(encoded, store), np.arange(12), whole(HEIGHT, WIDTH))
  assert min(psnr_db(a, b) for a, b in zip(source, found, strict=True)) >= least_db
  assert encoded.psnr_db == psnr_db(source[8], found[8])  # the last power of two below 12


def test_another_size_shows_the_same_part():
  """A window of stored frames of half the size, in frames of the full size, is twice as large."""
  small = View((HEIGHT // 2, WIDTH // 2), 3, 5, 10, 12, (20, 24))
  np.testing.assert_array_equal(see(FRAMES, small), FRAMES[:, 6:26, 10:34])


def test_pixels_lie_in_a_row(tmp_path):
  """Two clips of different sizes come back as they were, mapped from one file."""
  clips = [FRAMES[:3], FRAMES[:5, :20, :30]]
  places = [append_pixels(tmp_path, clip.tobytes()) for clip in clips]
  file = np.memmap(tmp_path / "pixels.u8", np.uint8, "r")
  assert len(file) == sum(clip.size for clip in clips)
  for clip, place in zip(clips, places, strict=True):
    np.testing.assert_array_equal(mapped_pixels(file, place, *clip.shape[:3]), clip)


def test_bad_requests(stored):
  """Frames that are not there, a picture that is none, and a part of a file that is kept whole."""
  view = whole(HEIGHT, WIDTH)
  for store, encoded in stored.items():
    with pytest.raises(VideoError, match="frame 12 was asked for, but there are 12 frames"):
      decode_clip(content(encoded, store), np.array([3, 12]), view)
  row = encode_jpeg_row(FRAMES[:2])
  with pytest.raises(VideoError, match="damaged: frame 1 is no JPEG picture"):
    decode_clip(row[:-1500], np.array([1]), view)
  with pytest.raises(VideoError, match="keeps files whole"):
    transcode(stored["source"].video, short_side=0, start_s=0.2, store="source")


def test_the_index_of_a_stored_clip(stored):
  """It names each frame's bytes, and what it does not fit it leaves to FFmpeg; the frames are the same."""
  video = stored["intra"].video
  table = read_sample_table(video)
  with av.open(io.BytesIO(video)) as container:
    packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
  assert [video[s : s + n] for s, n in zip(table.starts, table.sizes, strict=True)] == packets
  foreign = video.replace(MARK.encode(), MARK.encode().upper())
  for other in (foreign, video[:-40], stored["source"].video, stored["jpeg"].video, b""):
    assert read_sample_table(other) is None
  wanted = np.array([0, 3, 3, 11])
  np.testing.assert_array_equal(decode_frames(video, wanted), decode_frames(foreign, wanted))


def test_a_damaged_clip_is_refused_or_decoded_whole(stored):
  """Flipped bytes anywhere give frames of the right shape or a VideoError, never another error."""
  video, rng = stored["intra"].video, np.random.default_rng(0)
  for _ in range(60):
    damaged = bytearray(video)
    for place in rng.integers(0, len(video), 4):
      damaged[place] ^= int(rng.integers(1, 256))
    with contextlib.suppress(VideoError):
      assert decode_frames(bytes(damaged), np.array([1, 7])).shape[0] == 2
