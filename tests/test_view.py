"""VIEW: crop, resize, random windows and flip, on a clip whose pixels say where they come from."""

import math

import numpy as np
import pytest

from vu_jax.build import build
from vu_jax.data.video.view import Pixels, View, choose_view, resized, see, whole, window_of
from vu_jax.errors import UserError


def marked(num_frames: int = 3, height: int = 20, width: int = 30) -> np.ndarray:
  """Red is the frame's number, green the row, blue the column."""
  t, y, x = np.meshgrid(*map(np.arange, (num_frames, height, width)), indexing="ij")
  return np.stack([t, y, x], axis=-1).astype(np.uint8)


def seen(pixels: Pixels, seed: int | None, video: np.ndarray | None = None) -> np.ndarray:
  """A clip through a view of the rule; seed None = evaluation."""
  video = marked() if video is None else video
  _, height, width, _ = video.shape
  return see(video, choose_view(pixels, height, width, None if seed is None else np.random.default_rng(seed)))


def test_a_crop_is_one_square_for_all_frames():
  """Every frame keeps its place in time, and shows the same unbroken square of rows and columns."""
  clip = seen(Pixels(crop=8), 1)
  top, left = clip[0, 0, 0, 1:]
  np.testing.assert_array_equal(clip, marked()[:, top : top + 8, left : left + 8])


def test_crops_are_everywhere_equally_often():
  """13 x 23 places of 8x8 px: 1500 draws reach the first and last row and column, and average the middle."""
  places = np.array([seen(Pixels(crop=8), seed)[0, 0, 0, 1:] for seed in range(1500)])
  assert (places.min(0).tolist(), places.max(0).tolist()) == ([0, 0], [12, 22])
  for found, room in zip(places.T, (12, 22), strict=True):
    assert abs(found.mean() - room / 2) < 5 * (room + 1) / math.sqrt(12 * 1500)


def test_flip_mirrors_whole_clips_half_of_the_time():
  """Columns run backwards in all frames or in none; 200 draws mirror 100 times, within 5 deviations of 7."""
  mirrored = 0
  for seed in range(200):
    clip = seen(Pixels(crop=8, flip=True), seed)
    steps = np.diff(clip[..., 2].astype(int), axis=2)
    assert (steps == 1).all() or (steps == -1).all()
    assert (np.diff(clip[..., 1].astype(int), axis=1) == 1).all()
    mirrored += int(steps[0, 0, 0] < 0)
  assert abs(mirrored - 100) < 5 * 7.1


def test_without_flip_nothing_is_ever_mirrored():
  """A mirrored "left" would be a "right"."""
  clips = (seen(Pixels(crop=8), seed) for seed in range(50))
  assert all((np.diff(clip[..., 2].astype(int), axis=2) == 1).all() for clip in clips)


def test_evaluation_sees_the_centre():
  """20x30 px leave 6 rows above and 11 columns beside 8x8 px, whatever flip and window say."""
  for window in ("crop", "jitter", "area"):
    clip = seen(Pixels(crop=8, flip=True, window=window), None)
    np.testing.assert_array_equal(clip, marked()[:, 6:14, 11:19])


def test_evaluation_sees_other_places_when_asked():
  """(0, 0) is the upper left corner, (1, 1) the lower right one."""
  for place, corner in (((0.0, 0.0), (0, 0)), ((1.0, 1.0), (12, 22)), ((0.5, 1.0), (6, 22))):
    view = choose_view(Pixels(crop=8), 20, 30, None, place)
    assert (view.top, view.left) == corner


def test_resize_meets_the_short_side():
  """30x61 px become 10x20 px; a smooth picture stays what it was."""
  assert resized(Pixels(short_side=10, crop=10), 30, 61) == (10, 20)
  assert resized(Pixels(crop=10), 30, 61) == (30, 61)
  clip = seen(Pixels(short_side=20, crop=20), None, marked(2, 40, 60))
  assert clip.shape == (2, 20, 20, 3)
  # Pixel y of 20 shows rows 2y and 2y + 1 of 40.
  np.testing.assert_allclose(clip[1, :, 0, 1], 2 * np.arange(20) + 0.5, atol=0.6)


def test_jitter_takes_smaller_windows():
  """A short side 1 to 2 times as long: windows of 20 down to 10 px of 40, shown at 10 px, square, of all sizes."""
  rule = Pixels(short_side=20, crop=10, window="jitter", jitter=(1.0, 2.0))
  views = [choose_view(rule, 40, 60, np.random.default_rng(seed)) for seed in range(300)]
  assert {view.size for view in views} == {(10, 10)}
  assert all(view.height == view.width for view in views)
  assert {view.height for view in views} == set(range(10, 21))


def test_areas_and_aspects_are_in_range():
  """A tenth to a half of the frame, width / height 1/2 to 2, to rounding; as many lie as stand."""
  rule = Pixels(crop=10, window="area", area_frac=(0.1, 0.5), aspect=(0.5, 2.0))
  views = [choose_view(rule, 100, 100, np.random.default_rng(seed)) for seed in range(400)]
  area = np.array([view.height * view.width / 10000 for view in views])
  aspect = np.array([view.width / view.height for view in views])
  assert 0.095 < area.min() < 0.12 < 0.48 < area.max() < 0.51
  assert 0.49 < aspect.min() < 0.53 < 1.9 < aspect.max() < 2.04
  assert abs((aspect > 1).mean() - 0.5) < 5 * 0.5 / 20
  assert all(v.top + v.height <= 100 and v.left + v.width <= 100 for v in views)


def test_an_area_that_never_fits_is_the_largest_square():
  """The whole of a frame of 20x90 px is no square; after ten attempts its short side decides."""
  rule = Pixels(crop=8, window="area", area_frac=(1.0, 1.0), aspect=(1.0, 1.0))
  view = choose_view(rule, 20, 90, np.random.default_rng(0))
  assert (view.height, view.width) == (20, 20)


def test_whole_and_windows_of_other_sizes():
  """The whole frame is itself; rows 5 to 15 of 20 are rows 2 to 8 (2.5 to 7.5, rounded to even) of 10."""
  np.testing.assert_array_equal(see(marked(), whole(20, 30)), marked())
  view = View((20, 30), 5, 6, 10, 12, (10, 12))
  assert window_of(view, (20, 30)) == (slice(5, 15), slice(6, 18))
  assert window_of(view, (10, 15)) == (slice(2, 8), slice(3, 9))
  assert window_of(View((20, 30), 19, 29, 1, 1, (1, 1)), (2, 2)) == (slice(1, 2), slice(1, 2))


def test_a_crop_that_does_not_fit_names_both_sizes():
  """The message gives the crop, the frame as width x height, and the largest crop that fits."""
  with pytest.raises(UserError, match=r"config\.pixels\.crop = 40: .* only 50x30 px; .* at most 30"):
    choose_view(Pixels(crop=40), 30, 50, None)
  with pytest.raises(UserError, match="only 33x20 px"):
    resized(Pixels(short_side=20, crop=21), 30, 50)


def test_ranges_in_the_wrong_order_are_refused():
  """The key and both values are named."""
  with pytest.raises(UserError, match=r"config\.pixels: jitter = \(2, 1\)"):
    build(Pixels, {"jitter": (2.0, 1.0)}, "config.pixels")
