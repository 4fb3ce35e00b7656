"""Learning rates, by hand at the steps that matter; warm-ups that end where the schedule begins."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vu_jax.errors import UserError
from vu_jax.train.optim import Optim, learning_rate, optimizer

HALF = math.sqrt(0.5)
# 110 steps, of which 10 are the warm-up, with a peak of 0.2: options, and the rates at some steps.
BY_HAND: dict[str, tuple[dict[str, Any], dict[int, float]]] = {
  "cosine": ({}, {0: 0, 5: 0.1, 10: 0.2, 60: 0.1, 85: 0.1 * (1 - HALF), 110: 0}),
  "cosine to a tenth": ({"lr_end_frac": 0.1}, {0: 0, 10: 0.2, 60: 0.11, 110: 0.02}),
  "cosine from a warm start": ({"warmup_from_frac": 0.2}, {0: 0.04, 5: 0.12, 10: 0.2, 60: 0.1, 110: 0}),
  "cosine over all steps": (
    {"falls_from": "start"},
    {0: 0, 5: 0.05 * (1 + math.cos(math.pi / 11)), 10: 0.1 * (1 + math.cos(math.pi / 11)), 55: 0.1, 110: 0},
  ),
  "constant": ({"schedule": "constant"}, {0: 0, 5: 0.1, 10: 0.2, 60: 0.2, 110: 0.2}),
  "linear": ({"schedule": "linear"}, {0: 0, 10: 0.2, 35: 0.15, 60: 0.1, 110: 0}),
  "linear over all steps": (
    {"schedule": "linear", "falls_from": "start", "lr_end_frac": 0.5},
    {0: 0, 10: 0.2 - 0.1 / 11, 55: 0.15, 110: 0.1},
  ),
  "step": (
    {"schedule": "step", "milestones": (0.5, 88), "gamma": 0.1},
    {0: 0, 5: 0.1, 10: 0.2, 54: 0.2, 55: 0.02, 87: 0.02, 88: 0.002, 110: 0.002},
  ),
  "inverse_sqrt": ({"schedule": "inverse_sqrt"}, {0: 0, 5: 0.1, 10: 0.2, 40: 0.1, 90: 0.2 / 3}),
  "inverse_sqrt without warm-up": (
    {"schedule": "inverse_sqrt", "warmup_steps": 0},
    {0: 0.2, 1: 0.2, 4: 0.1, 100: 0.02},
  ),
  "one_cycle": (
    {"schedule": "one_cycle", "warmup_from_frac": 0.04, "lr_end_frac": 1e-3},
    {0: 0.008, 5: 0.104, 10: 0.2, 60: 0.5 * (0.2 + 0.0002), 110: 0.0002},
  ),
  "no warm-up": ({"warmup_steps": 0}, {0: 0.2, 55: 0.1, 110: 0}),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rates_by_hand(name: str):
  """The start, the middle and the end of the warm-up, the middle and the end of training."""
  options, expected = BY_HAND[name]
  rate = learning_rate(Optim(**({"lr_peak": 0.2, "warmup_steps": 10} | options)), 110)
  found = {step: float(rate(step)) for step in expected}
  assert found == pytest.approx(expected, abs=1e-7)


def test_one_cycle_rises_along_half_a_wave():
  """A quarter up its rise a one-cycle rate is below the line, three quarters up as far above."""
  rate = learning_rate(Optim(schedule="one_cycle", lr_peak=1.0, warmup_steps=100), 1000)
  assert [float(rate(step)) for step in (25, 75)] == pytest.approx([(1 - HALF) / 2, (1 + HALF) / 2], abs=1e-6)


def test_one_cycle_is_that_of_torch_but_for_its_last_step():
  """With torch's defaults (25, 1e4, 0.3 of the steps) the rates are those that its formulas give, by hand."""
  steps, peak = 100, 5e-4
  rate = learning_rate(
    Optim(schedule="one_cycle", lr_peak=peak, warmup_steps=30, warmup_from_frac=1 / 25, lr_end_frac=1 / 25 / 1e4), steps
  )

  def between(a: float, b: float, part: float) -> float:
    return b + (a - b) / 2 * (1 + math.cos(math.pi * part))

  expected = {15: between(peak / 25, peak, 0.5), 30: peak, 65: between(peak, peak / 25 / 1e4, 0.5)}
  assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40)
@given(
  schedule=st.sampled_from(["cosine", "constant", "linear", "step", "inverse_sqrt", "one_cycle"]),
  falls_from=st.sampled_from(["warmup", "start"]),
  steps=st.integers(10, 10_000),
  warmup=st.floats(0.01, 0.8),
  first=st.floats(0, 1),
  last=st.floats(0, 1),
)
def test_rates_are_never_negative_and_the_warm_up_ends_without_a_jump(schedule, falls_from, steps, warmup, first, last):
  """For any options: 0 <= rate <= peak at all times, and no jump from just before the end of the warm-up to it."""
  warmup_steps = max(1, int(warmup * steps))
  options = Optim(
    lr_peak=0.5,
    schedule=schedule,
    falls_from=falls_from,
    warmup_steps=warmup_steps,
    warmup_from_frac=first,
    lr_end_frac=last,
    milestones=((warmup_steps + 1) / steps,) if warmup_steps + 2 < steps else (warmup_steps + 0.6,),
  )
  if schedule == "step" and warmup_steps + 2 >= steps:
    return
  rate = learning_rate(options, steps)
  times = np.array([0, 1, warmup_steps / 2, warmup_steps * (1 - 1e-6), warmup_steps, steps / 2, steps - 1, steps])
  rates = np.asarray(rate(jnp.asarray(times, jnp.float32)))
  assert (rates >= 0).all()
  assert (rates <= 0.5 * (1 + 1e-6)).all()
  assert rates[3] == pytest.approx(rates[4], abs=0.5 * 1e-4)


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"warmup_steps": 100}, r"config\.optim\.warmup_steps = 100: .* config\.train\.steps = 100"),
    ({"schedule": "step"}, r"config\.optim\.milestones: .*\(0\.5, 0\.75\)"),
    ({"schedule": "step", "milestones": (0.05, 0.5)}, r"\(0\.05, 0\.5\): steps \[5, 50\] .*warmup_steps = 10"),
    ({"schedule": "step", "milestones": (60, 30)}, r"milestones = .* must ascend"),
    ({"schedule": "step", "milestones": (50, 100)}, r"before config\.train\.steps = 100"),
  ],
)
def test_steps_that_do_not_fit_are_refused(options: dict[str, Any], words: str):
  """The message names the keys and the numbers; one step less is fine."""
  with pytest.raises(UserError, match=words):
    optimizer(Optim(**({"warmup_steps": 10} | options)), 100)
  optimizer(Optim(warmup_steps=99), 100)
