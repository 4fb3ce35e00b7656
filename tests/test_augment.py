"""AUGMENT: pixel operations by hand, their draws, and where they happen."""

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from vu_jax.build import build
from vu_jax.data.augmentation import operations
from vu_jax.data.augmentation.augment import Augment, augmented
from vu_jax.data.augmentation.colour import LUMA
from vu_jax.data.augmentation.erase import box_size, erase
from vu_jax.data.clips import Clip
from vu_jax.data.loader import Loader, load_clip, train_batches
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.view import Pixels
from vu_jax.errors import UserError


def noise(frames: int = 3, height: int = 16, width: int = 20, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def still(frames: int = 4, seed: int = 0) -> np.ndarray:
  """A clip whose frames are all alike."""
  return np.repeat(noise(1, seed=seed), frames, axis=0)


def pixels(*values: tuple[int, int, int]) -> np.ndarray:
  """A clip of one row."""
  return np.array(values, np.uint8)[None, None]


def colours_of(video: np.ndarray) -> list[list[int]]:
  return video.reshape(-1, 3).tolist()


# name -> the operation at a strength that changes something.
CHANGES: dict[str, Any] = {
  "recolour": lambda v: operations.recolour(v, 1.4, 0.6, 1.5, 0.1),
  "greyscale": operations.greyscale,
  "posterize": lambda v: operations.posterize(v, 3),
  "solarize": lambda v: operations.solarize(v, 100),
  "equalize": operations.equalize,
  "auto_contrast": lambda v: operations.auto_contrast(v // 2 + 20),
  "sharpness": lambda v: operations.sharpness(v, 1.9),
  "blur": lambda v: operations.blur(v, 1.5),
  "affine": lambda v: operations.affine(v, 20, (0.1, 0.2), (0.1, -0.2)),
  "erase": lambda v: erase(v, (5, 7), False, "noise", np.random.default_rng(1)),
}
EVERYTHING = Augment(
  policy="rand", turn_deg=20, shear=0.1, shift_frac=0.1, brightness=0.4, contrast=0.4, saturation=0.4, hue_turn=0.1,
  grey_frac=0.3, blur_frac=0.5, solarize_frac=0.3, erase_frac=0.5,
)  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_operations_keep_type_and_treat_frames_alike(name: str):
  """Equal frames stay equal, the argument stays what it was, and something changes; one pixel's frames work, too."""
  clip = still()
  before = clip.copy()
  changed = CHANGES[name](clip)
  assert (changed.dtype, changed.shape) == (np.uint8, clip.shape)
  assert (changed == changed[:1]).all()
  assert (changed != before).any()
  np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - {"erase", "equalize", "auto_contrast"}))
def test_frames_do_not_see_each_other(name: str):
  """A frame among others becomes what it becomes alone, but for the clip's mean, which has no part without contrast."""
  change = CHANGES[name] if name != "recolour" else lambda v: operations.recolour(v, 1.4, 1, 1.5, 0.1)
  clip = noise()
  np.testing.assert_array_equal(change(clip), np.concatenate([change(frame[None]) for frame in clip]))


def test_zero_strength_changes_nothing():
  """Every operation has an identity."""
  clip = noise()
  same = [
    operations.recolour(clip),
    operations.recolour(clip, hue_turn=1.0),
    operations.posterize(clip, 8),
    operations.solarize(clip, 256),
    operations.sharpness(clip, 1),
    operations.blur(clip, 0),
    operations.affine(clip),
    operations.affine(clip, turn_deg=360),
  ]
  for changed in same:
    np.testing.assert_array_equal(changed, clip)


def test_brightness_and_contrast_by_hand():
  """Half of 10, 100, 200 is 5, 50, 100. Half the contrast moves 0, 80, 160 (mean 80) to 40, 80, 120; none to 80."""
  assert colours_of(operations.recolour(pixels((10, 100, 200)), brightness=0.5)) == [[5, 50, 100]]
  assert colours_of(operations.recolour(pixels((10, 100, 200)), brightness=2)) == [[20, 200, 255]]
  greys = pixels((0, 0, 0), (80, 80, 80), (160, 160, 160))
  assert [c[0] for c in colours_of(operations.recolour(greys, contrast=0.5))] == [40, 80, 120]
  assert [c[0] for c in colours_of(operations.recolour(greys, contrast=0))] == [80, 80, 80]
  # Brightness first: 0, 40, 80 have the mean 40.
  assert [c[0] for c in colours_of(operations.recolour(greys, brightness=0.5, contrast=2))] == [0, 40, 120]


def test_saturation_and_hue_by_hand():
  """The luma of (100, 120, 140) is 29.9 + 70.44 + 15.96 = 116.3: half a turn of hue is 2 x 116.3 - colour."""
  colour = pixels((100, 120, 140))
  assert colours_of(operations.greyscale(colour)) == [[116, 116, 116]]
  assert colours_of(operations.recolour(colour, saturation=0)) == [[116, 116, 116]]
  assert colours_of(operations.recolour(colour, saturation=0.5)) == [[108, 118, 128]]
  np.testing.assert_allclose(operations.recolour(colour, hue_turn=0.5)[0, 0, 0], [132.6, 112.6, 92.6], atol=1)
  assert colours_of(operations.recolour(pixels((90, 90, 90)), saturation=1.7, hue_turn=0.2)) == [[90, 90, 90]]
  red, green, blue = (np.argmax(operations.recolour(pixels(c), hue_turn=1 / 3)) for c in np.eye(3, dtype=int) * 100)
  assert (red, green, blue) == (1, 2, 0)  # red becomes green becomes blue becomes red


def test_hue_keeps_luma():
  """A turn of any size leaves the luma, to rounding, where nothing is cut off."""
  clip = noise() // 4 + 96
  for turn in (0.1, 0.25, 0.4, -0.3):
    turned = operations.recolour(clip, hue_turn=turn)
    np.testing.assert_allclose(turned @ LUMA, clip @ LUMA, atol=1.01)


def test_posterize_and_solarize_by_hand():
  """3 bits keep multiples of 32; solarizing at 128 inverts 128 and above."""
  assert colours_of(operations.posterize(pixels((31, 32, 255)), 3)) == [[0, 32, 224]]
  assert colours_of(operations.posterize(pixels((31, 32, 255)), 0)) == [[0, 0, 0]]
  assert colours_of(operations.solarize(pixels((127, 128, 250)), 128)) == [[127, 127, 5]]
  assert colours_of(operations.solarize(pixels((0, 128, 250)), 0)) == [[255, 127, 5]]


def test_auto_contrast_and_equalize_by_hand():
  """50..100 is stretched to 0..255, 75 to 127; a channel of one value stays."""
  clip = pixels((50, 7, 100), (75, 7, 110), (100, 7, 120))
  assert colours_of(operations.auto_contrast(clip)) == [[0, 7, 0], [127, 7, 127], [255, 7, 255]]
  # 510 zeros, 510 tens and one 200: step = 1020 // 255 = 4, so 0 -> 2 // 4, 10 -> 512 // 4, 200 -> 1022 // 4.
  row = np.repeat(np.array([0, 10, 200], np.uint8), [510, 510, 1])
  equal = operations.equalize(np.repeat(row[None, None, :, None], 3, axis=3))
  assert np.unique(equal).tolist() == [0, 128, 255]
  np.testing.assert_array_equal(operations.equalize(pixels((5, 5, 5))), pixels((5, 5, 5)))


def test_sharpness_by_hand():
  """A bright pixel of 130 on 0: smoothed it is 5/13 of it and its neighbours 1/13; with factor 2, cut at 255."""
  clip = np.zeros((2, 5, 5, 3), np.uint8)
  clip[0, 2, 2] = 130
  smooth = operations.sharpness(clip, 0)
  np.testing.assert_array_equal(smooth[0, 1:4, 1:4, 0], [[10, 10, 10], [10, 50, 10], [10, 10, 10]])
  sharp = operations.sharpness(clip, 2)
  assert (sharp[0, 2, 2, 0], sharp[0, 1, 1, 0], sharp[1].max()) == (210, 0, 0)


@pytest.mark.parametrize(
  ("ours", "theirs", "within"),
  [
    (operations.equalize, ImageOps.equalize, 0),
    (operations.auto_contrast, ImageOps.autocontrast, 1),
    (lambda v: operations.posterize(v, 2), lambda i: ImageOps.posterize(i, 2), 0),
    (lambda v: operations.solarize(v, 90), lambda i: ImageOps.solarize(i, 90), 0),
    (lambda v: operations.sharpness(v, 0.3), lambda i: ImageEnhance.Sharpness(i).enhance(0.3), 1),
    (lambda v: operations.sharpness(v, 1.8), lambda i: ImageEnhance.Sharpness(i).enhance(1.8), 1),
    (lambda v: operations.recolour(v, brightness=1.3), lambda i: ImageEnhance.Brightness(i).enhance(1.3), 1),
    (lambda v: operations.recolour(v, contrast=0.4), lambda i: ImageEnhance.Contrast(i).enhance(0.4), 1),
    (lambda v: operations.recolour(v, saturation=1.6), lambda i: ImageEnhance.Color(i).enhance(1.6), 1),
    (operations.greyscale, lambda i: i.convert("L").convert("RGB"), 1),
  ],
)
def test_one_frame_is_treated_as_pillow_does(ours: Any, theirs: Any, within: int):
  """The operations of the policies are those of the papers, which are Pillow's; ours round where Pillow cuts."""
  picture = np.clip(np.random.default_rng(2).normal(120, 40, (40, 50, 3)), 9, 240).astype(np.uint8)
  want = np.asarray(theirs(Image.fromarray(picture)))
  np.testing.assert_allclose(ours(picture[None])[0].astype(int), want, atol=within)


def test_blur_by_hand():
  """A point spreads as the Gaussian says; a plain picture stays, up to its borders; the sum is kept."""
  clip = np.zeros((1, 15, 15, 3), np.uint8)
  clip[0, 7, 7] = 255
  bell = np.exp(-0.5 * np.arange(-3, 4) ** 2)
  want = 255 * np.outer(bell, bell) / bell.sum() ** 2
  np.testing.assert_allclose(operations.blur(clip, 1)[0, 4:11, 4:11, 1], want, atol=1)
  for sigma in (0.1, 0.7, 2.0):
    np.testing.assert_array_equal(operations.blur(np.full_like(clip, 200), sigma), 200)


def test_turns_shears_and_shifts_by_hand():
  """A quarter turn is that of numpy; a shift of half the width moves columns and fills with 128; shears slide rows."""
  square = noise(2, 9, 9)
  np.testing.assert_array_equal(operations.affine(square, turn_deg=90), np.rot90(square, axes=(1, 2)))
  clip = noise(2, 10, 20)
  right = operations.affine(clip, shift_frac=(0.5, 0))
  np.testing.assert_array_equal(right[:, :, 10:], clip[:, :, :10])
  assert (right[:, :, :10] == 128).all()
  np.testing.assert_array_equal(operations.affine(clip, shift_frac=(0, -0.2))[:, :8], clip[:, 2:])
  slid = operations.affine(square, shear=(1, 0))  # row 4 stays, row 5 moves 1 px to the right
  np.testing.assert_array_equal(slid[:, 4], square[:, 4])
  np.testing.assert_array_equal(slid[:, 5, 1:], square[:, 5, :-1])
  np.testing.assert_array_equal(slid[:, 2, :-2], square[:, 2, 2:])
  slid = operations.affine(square, shear=(0, 1))
  np.testing.assert_array_equal(slid[:, 1:, 5], square[:, :-1, 5])


def test_an_erased_box_stands_or_moves():
  """Exactly 4x6 px are covered in every frame: the same ones, or ones that move in equal steps."""
  clip = np.zeros((5, 20, 30, 3), np.uint8)
  for seed in range(20):
    stands = erase(clip, (4, 6), False, "grey", np.random.default_rng(seed))
    assert ((stands == 128).all(-1).sum((1, 2)) == 24).all()
    assert (stands == stands[:1]).all()
    moves = erase(clip, (4, 6), True, "grey", np.random.default_rng(seed))
    tops = np.array([np.argwhere(frame[..., 0])[0] for frame in moves])
    assert ((moves == 128).all(-1).sum((1, 2)) == 24).all()
    assert np.abs(np.diff(tops, 2, axis=0)).max() <= 1  # a straight line, to rounding
  static = erase(clip, (20, 30), False, "noise", np.random.default_rng(0))
  assert (static == static[:1]).all()
  assert abs(static.mean() - 127.5) < 5 * 73.9 / math.sqrt(static[0].size)


def test_erased_areas_are_in_range():
  """2 to 33 % of the frame, height / width 0.3 to 3.3, to half a pixel; both halves of the aspects equally often."""
  rng = np.random.default_rng(0)
  sizes = np.array([box_size(100, 120, (0.02, 0.33), (0.3, 3.3), rng) for _ in range(500)])
  area, aspect = sizes.prod(1) / 12000, sizes[:, 0] / sizes[:, 1]
  assert 0.018 < area.min() < 0.04
  assert 0.30 < area.max() < 0.34
  assert 0.28 < aspect.min() < 0.4
  assert 2.6 < aspect.max() < 3.5
  assert abs((aspect > 1).mean() - 0.5) < 5 * 0.5 / math.sqrt(500)
  assert box_size(4, 50, (1.0, 1.0), (3.3, 3.3), rng) == (4, 8)  # never fits: cut to the frame


def test_nothing_is_on_by_default_and_evaluation_is_untouched():
  """The clip itself comes back, and the generator is where it was."""
  clip, rng = noise(), np.random.default_rng(3)
  assert augmented(clip, Augment(), rng) is clip
  assert rng.uniform() == np.random.default_rng(3).uniform()
  assert augmented(clip, EVERYTHING, None) is clip


def test_draws_follow_the_generator_and_frames_stay_alike():
  """The same generator gives the same clip; 40 others give others; equal frames stay equal, and the clip unharmed."""
  clip = still()
  before = clip.copy()
  seen = [augmented(clip, EVERYTHING, np.random.default_rng(seed)) for seed in range(40)]
  assert all((s == s[:1]).all() and s.dtype == np.uint8 and s.shape == clip.shape for s in seen)
  assert len({s.tobytes() for s in seen}) == 40
  np.testing.assert_array_equal(augmented(clip, EVERYTHING, np.random.default_rng(7)), seen[7])
  np.testing.assert_array_equal(clip, before)


def test_ranges_and_shares_of_draws():
  """Brightness 0.4 scales 100 to 60..140, evenly; a quarter of 400 clips become grey, within 5 deviations."""
  plain = np.full((1, 1, 1, 3), 100, np.uint8)
  bright = [int(augmented(plain, Augment(brightness=0.4), np.random.default_rng(i)).max()) for i in range(400)]
  assert 60 <= min(bright) < 63 < 137 < max(bright) <= 140
  assert abs(np.mean(bright) - 100) < 5 * 23.1 / 20
  red = pixels((200, 0, 0))
  grey = sum((augmented(red, Augment(grey_frac=0.25), np.random.default_rng(i)) == 60).all() for i in range(400))
  assert abs(grey - 100) < 5 * 8.7
  half = Augment(brightness=0.5, colour_frac=0.5)
  same = sum((augmented(plain, half, np.random.default_rng(i)) == plain).all() for i in range(400))
  assert abs(same - 200) < 5 * 10 + 4  # a few draws change less than half a level


def test_colours_on_the_device_are_not_done_on_the_host():
  """Erasing still is."""
  clip = noise()
  options = Augment(brightness=0.5, blur_frac=1.0, colour_on="device")
  assert augmented(clip, options, np.random.default_rng(0)) is clip
  assert options.recolours
  assert not Augment(erase_frac=1.0).recolours


def test_bad_options_are_refused_by_name():
  """Out of range, in the wrong order, or no such operation."""
  for section, words in [
    ({"brightness": 1.5}, r"config\.augment\.brightness = 1\.5: must be between 0 and 1"),
    ({"blur_sigma_px": (2.0, 1.0)}, r"blur_sigma_px = \(2, 1\): the first must not be above"),
    ({"operations": ("rotat",)}, r'operations\[0\] = .rotat.: .* did you mean "rotate"'),
    ({"operations": (), "policy": "rand"}, "name at least one"),
    ({"magnitude": 11}, "between 0 and 10"),
  ]:
    with pytest.raises(UserError, match=words):
      build(Augment, section, "config.augment")


def test_the_loader_augments_training_only(tiny_motion: Any):
  """One clip is the clip without augmentation, augmented; evaluation sees it plain; batches are drawn by position."""
  source, clip, view = PreparedSource(tiny_motion, "train"), Clip(num_frames=4), Pixels(crop=24)
  options = Augment(solarize_frac=1.0)
  plain = load_clip(source, clip, view, 3, np.random.default_rng(5))["video"]
  changed = load_clip(source, clip, view, 3, np.random.default_rng(5), options)["video"]
  np.testing.assert_array_equal(changed, operations.solarize(plain, 128))
  evaluated = [load_clip(source, clip, view, 3, None, on)["video"] for on in (Augment(), options)]
  np.testing.assert_array_equal(*evaluated)
  batches = []
  for threads, on in ((1, EVERYTHING), (2, EVERYTHING), (1, Augment())):
    batches.append(next(train_batches(source, clip, view, Loader(batch_size=4, threads=threads), 0, on)))
  np.testing.assert_array_equal(batches[0]["video"], batches[1]["video"])
  assert (batches[0]["video"] != batches[2]["video"]).any((1, 2, 3, 4)).all()
