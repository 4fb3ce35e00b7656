"""POLICIES: what RandAugment and TrivialAugment draw, and what their strengths mean."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from vu_jax.data.augmentation import operations, policies
from vu_jax.data.augmentation.augment import Augment, augmented
from vu_jax.data.augmentation.policies import OPERATIONS, RAND, TRIVIAL, operate, rand_augment, trivial_augment

# Half a picture's range, so that stretching changes it, too.
CLIP = np.random.default_rng(0).integers(60, 190, (2, 22, 33, 3), dtype=np.uint8)
MEASURED = ("auto_contrast", "equalize")  # have no strength


def drawn(monkeypatch: pytest.MonkeyPatch, policy: Any, seeds: int) -> list[tuple[str, float, Any]]:
  """(name, strength, ranges) of every operation that a policy draws; nothing is computed."""
  calls: list[tuple[str, float, Any]] = []
  monkeypatch.setattr(policies, "operate", lambda video, *what: calls.append(what) or video)
  for seed in range(seeds):
    policy(CLIP, np.random.default_rng(seed))
  return calls


@pytest.mark.parametrize("ranges", [RAND, TRIVIAL])
@pytest.mark.parametrize("name", OPERATIONS)
def test_strength_zero_changes_nothing_and_full_strength_something(name: Any, ranges: Any):
  """Except for the two that measure, and the one that does nothing; frames, shape and type are kept."""
  zero, full = operate(CLIP, name, 0.0, ranges), operate(CLIP, name, 1.0, ranges)
  assert (zero == CLIP).all() == (name not in MEASURED)
  assert (full == CLIP).all() == (name == "identity")
  assert (full.shape, full.dtype) == (CLIP.shape, np.uint8)


def test_full_strengths_are_the_papers():
  """RandAugment: 30 degrees, shear 0.3, 150/331 of the side, 1 +- 0.9, 4 bits; wide: 135, 0.99, 1/7, 2 bits."""
  expected = {
    "rotate": (operations.affine(CLIP, turn_deg=30), operations.affine(CLIP, turn_deg=135)),
    "shear_x": (operations.affine(CLIP, shear=(0.3, 0)), operations.affine(CLIP, shear=(0.99, 0))),
    "shear_y": (operations.affine(CLIP, shear=(0, 0.3)), operations.affine(CLIP, shear=(0, 0.99))),
    "translate_x": tuple(operations.affine(CLIP, shift_frac=(s, 0)) for s in (150 / 331, 1 / 7)),
    "translate_y": tuple(operations.affine(CLIP, shift_frac=(0, s)) for s in (150 / 331, 1 / 7)),
    "brightness": (operations.recolour(CLIP, 1.9), operations.recolour(CLIP, 1.99)),
    "contrast": (operations.recolour(CLIP, contrast=1.9), operations.recolour(CLIP, contrast=1.99)),
    "colour": (operations.recolour(CLIP, saturation=1.9), operations.recolour(CLIP, saturation=1.99)),
    "sharpness": (operations.sharpness(CLIP, 1.9), operations.sharpness(CLIP, 1.99)),
    "posterize": (CLIP & 0b11110000, CLIP & 0b11000000),
    "solarize": (255 - CLIP, 255 - CLIP),
  }
  for name, wants in expected.items():
    for ranges, want in zip((RAND, TRIVIAL), wants, strict=True):
      np.testing.assert_array_equal(operate(CLIP, name, 1.0, ranges), want, err_msg=name)
  np.testing.assert_array_equal(operate(CLIP, "rotate", -0.5, RAND), operations.affine(CLIP, turn_deg=-15))
  np.testing.assert_array_equal(operate(CLIP, "brightness", -1.0, RAND), operations.recolour(CLIP, 1 - 0.9))
  np.testing.assert_array_equal(operate(CLIP, "posterize", -0.5, RAND), CLIP & 0b11111100)


def test_rand_augment_draws_evenly(monkeypatch: pytest.MonkeyPatch):
  """1400 draws of 14 operations: 100 each within 5 deviations; half of the signs; strength 0.7 exactly without std."""
  calls = drawn(monkeypatch, lambda v, rng: rand_augment(v, 2, 7, 0, rng), 700)
  counts = Counter(name for name, _, _ in calls)
  assert sorted(counts) == sorted(OPERATIONS)
  assert all(abs(n - 100) < 5 * 9.7 for n in counts.values())
  assert {round(abs(s), 12) for _, s, _ in calls} == {0.7}
  assert abs(sum(s > 0 for _, s, _ in calls) - 700) < 5 * math.sqrt(350)
  assert {r for _, _, r in calls} == {RAND}


def test_rand_augment_spreads_magnitudes(monkeypatch: pytest.MonkeyPatch):
  """Magnitude 5 with std 1: strengths of mean 0.5 and deviation 0.1; never beyond 1, even at 10 with std 5."""
  sizes = [abs(s) for _, s, _ in drawn(monkeypatch, lambda v, rng: rand_augment(v, 1, 5, 1, rng), 1000)]
  assert abs(np.mean(sizes) - 0.5) < 5 * 0.1 / math.sqrt(1000)
  assert abs(np.std(sizes) - 0.1) < 5 * 0.1 / math.sqrt(2000)
  sizes = [abs(s) for _, s, _ in drawn(monkeypatch, lambda v, rng: rand_augment(v, 1, 10, 5, rng), 200)]
  assert (min(sizes) >= 0, max(sizes)) == (True, 1)
  assert abs(sum(s == 1 for s in sizes) - 100) < 5 * 7.1


def test_trivial_augment_draws_one_of_31_strengths(monkeypatch: pytest.MonkeyPatch):
  """One operation per clip; strengths are multiples of 1/30 from 0 to 1, with mean 1/2."""
  calls = drawn(monkeypatch, trivial_augment, 1000)
  assert len(calls) == 1000
  steps = np.array([abs(s) * 30 for _, s, _ in calls])
  np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
  assert set(np.rint(steps)) == set(range(31))
  assert abs(steps.mean() - 15) < 5 * 8.94 / math.sqrt(1000)
  assert {r for _, _, r in calls} == {TRIVIAL}


def test_only_the_named_operations_are_drawn(monkeypatch: pytest.MonkeyPatch):
  """A list of two is a choice of two."""
  calls = drawn(monkeypatch, lambda v, rng: trivial_augment(v, rng, ("rotate", "solarize")), 50)
  assert {name for name, _, _ in calls} == {"rotate", "solarize"}


def test_policies_are_deterministic_and_treat_frames_alike():
  """The same generator gives the same clip; equal frames stay equal; the clip is not written into."""
  still = np.repeat(CLIP[:1], 3, axis=0)
  before = still.copy()
  for policy in ("rand", "trivial"):
    options = Augment(policy=policy)
    seen = [augmented(still, options, np.random.default_rng(seed)) for seed in range(30)]
    assert all((clip == clip[:1]).all() for clip in seen)
    assert len({clip.tobytes() for clip in seen}) > 20
    np.testing.assert_array_equal(augmented(still, options, np.random.default_rng(4)), seen[4])
  np.testing.assert_array_equal(still, before)
