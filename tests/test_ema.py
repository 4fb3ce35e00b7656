"""The running average of the parameters, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.train.ema import start_average, update_average


def averaged(values: list[float], decay: float, warmup: bool) -> list[float]:
  """The average after each of the updates that bring one parameter to these values, from 0."""
  average, found = start_average({"w": jnp.zeros(1)}), []
  for n, value in enumerate(values, start=1):
    average = update_average(average, {"w": jnp.full(1, value)}, n, decay, warmup)
    found.append(float(average["w"][0]))
  return found


def test_a_steady_decay_by_hand():
  """Half of the old, half of the new: 4, then 8 from 0 give 2, then 5."""
  assert averaged([4.0, 8.0], 0.5, warmup=False) == [2.0, 5.0]


def test_a_warm_up_by_hand():
  """d = 2/11, then 3/12, then its limit of 0.26: the start is soon forgotten."""
  first = 9 / 11 * 4
  second = 0.25 * first + 0.75 * 8
  assert averaged([4.0, 8.0, 1.0], 0.26, warmup=True) == pytest.approx([first, second, 0.26 * second + 0.74], rel=1e-6)


def test_what_does_not_change_is_its_own_average():
  """Exactly, whatever the decay; and a decay of 1 keeps the start."""
  params = {"w": jnp.array([0.1, 1e6, -3e-7])}
  average = update_average(start_average(params), params, 7, 0.9999)
  np.testing.assert_array_equal(average["w"], params["w"])
  kept = update_average(start_average(params), {"w": jnp.zeros(3)}, 7, 1.0, warmup=False)
  np.testing.assert_array_equal(kept["w"], params["w"])


def test_a_slow_average_is_precise():
  """10,000 updates with a decay of 0.9999 towards 1 end at 1 - 0.9999^10000, to a thousandth of the way."""
  step = jax.jit(lambda n, average: update_average(average, {"w": jnp.ones(1)}, n + 1, 0.9999, warmup=False))
  end = jax.jit(lambda average: jax.lax.fori_loop(0, 10_000, step, average))({"w": jnp.zeros(1)})
  assert float(end["w"][0]) == pytest.approx(1 - 0.9999**10_000, rel=1e-3)


def test_the_average_is_a_copy_in_float32():
  """So that parameters of any precision may be donated to the next step."""
  params = {"w": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2)}
  average = start_average(params)
  assert {k: v.dtype for k, v in average.items()} == {"w": jnp.float32, "b": jnp.float32}
  params["b"].delete()
  assert float(average["b"].sum()) == 2
  assert update_average(average, {"w": params["w"], "b": jnp.ones(2)}, 1, 0.9)["w"].dtype == jnp.float32
