"""Resize, crop and flip, on a clip whose pixels say where they come from."""

import numpy as np
import pytest

from vu_jax.data.augment import Pixels, resized, see
from vu_jax.errors import UserError


def marked(num_frames: int = 3, height: int = 20, width: int = 30) -> np.ndarray:
  """Red is the frame's number, green the row, blue the column."""
  t, y, x = np.meshgrid(*map(np.arange, (num_frames, height, width)), indexing="ij")
  return np.stack([t, y, x], axis=-1).astype(np.uint8)


def draws(pixels: Pixels, count: int) -> list[np.ndarray]:
  return [see(marked(), pixels, np.random.default_rng(i)) for i in range(count)]


def test_a_crop_is_one_square_for_all_frames():
  """Every frame keeps its place in time, and shows the same unbroken square of rows and columns."""
  seen = see(marked(), Pixels(crop=8), np.random.default_rng(1))
  top, left = seen[0, 0, 0, 1:]
  np.testing.assert_array_equal(seen, marked()[:, top : top + 8, left : left + 8])
  assert len({tuple(clip[0, 0, 0, 1:]) for clip in draws(Pixels(crop=8), 20)}) > 10


def test_flip_mirrors_whole_clips_half_of_the_time():
  """Columns run backwards in all frames or in none; 200 draws mirror 100 times, within 5 deviations of 7."""
  mirrored = 0
  for clip in draws(Pixels(crop=8, flip=True), 200):
    steps = np.diff(clip[..., 2].astype(int), axis=2)
    assert (steps == 1).all() or (steps == -1).all()
    assert (np.diff(clip[..., 1].astype(int), axis=1) == 1).all()
    mirrored += int(steps[0, 0, 0] < 0)
  assert abs(mirrored - 100) < 5 * 7.1


def test_without_flip_nothing_is_ever_mirrored():
  """A mirrored "left" would be a "right"."""
  assert all((np.diff(clip[..., 2].astype(int), axis=2) == 1).all() for clip in draws(Pixels(crop=8), 50))


def test_evaluation_sees_the_centre():
  """Twice the same: 20x30 px leave 6 rows above and 11 columns beside 8x8 px, whatever flip says."""
  for _ in range(2):
    seen = see(marked(), Pixels(crop=8, flip=True), None)
    np.testing.assert_array_equal(seen, marked()[:, 6:14, 11:19])


def test_resize_meets_the_short_side():
  """30x61 px become 10x20 px; a smooth picture stays what it was."""
  assert resized(Pixels(short_side=10, crop=10), 30, 61) == (10, 20)
  assert resized(Pixels(crop=10), 30, 61) == (30, 61)
  seen = see(marked(2, 40, 60), Pixels(short_side=20, crop=20), None)
  assert seen.shape == (2, 20, 20, 3)
  # Pixel y of 20 shows rows 2y and 2y + 1 of 40.
  np.testing.assert_allclose(seen[1, :, 0, 1], 2 * np.arange(20) + 0.5, atol=0.6)


def test_a_crop_that_does_not_fit_names_both_sizes():
  """The message gives the crop, the frame as width x height, and the largest crop that fits."""
  with pytest.raises(UserError, match=r"config\.pixels\.crop = 40: .* only 50x30 px; .* at most 30"):
    see(marked(2, 30, 50), Pixels(crop=40), None)
  with pytest.raises(UserError, match="only 33x20 px"):
    resized(Pixels(short_side=20, crop=21), 30, 50)
