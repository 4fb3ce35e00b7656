"""The dtype policy: in bfloat16, every parameter's gradient is that of float32 up to rounding."""

import jax
import jax.numpy as jnp
import pytest

from vu_jax.layers.attention.embed import PatchEmbed
from vu_jax.layers.convolution.conv_modules import Conv3D
from vu_jax.layers.dense import Dense
from vu_jax.layers.gates import SqueezeExcite
from vu_jax.layers.recurrence.recurrent import GRU, ConvLSTM

LAYERS = {
  "dense": lambda dtype: Dense(8, dtype=dtype),
  "conv": lambda dtype: Conv3D(8, dtype=dtype),
  "patches": lambda dtype: PatchEmbed(8, (1, 2, 2), dtype=dtype),
  "squeeze-excite": lambda dtype: SqueezeExcite(0.5, dtype=dtype),
  "conv LSTM": lambda dtype: ConvLSTM(4, peephole="channel", dtype=dtype),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_in_bfloat16(name):
  """Sums over thousands of positions do not lose what single terms keep."""
  rounded, exact = (_gradients(LAYERS[name](dtype), (8, 4, 16, 16, 4)) for dtype in ("bfloat16", "float32"))
  _close(rounded, exact)


def test_gradients_in_bfloat16_without_a_map():
  """The GRU's own bias lies within the loop over time."""
  rounded, exact = (_gradients(GRU(4, dtype=dtype), (512, 4, 4)) for dtype in ("bfloat16", "float32"))
  _close(rounded, exact)


def _gradients(layer, shape):
  x = jax.random.normal(jax.random.key(0), shape)
  params = layer.init(jax.random.key(1), x)

  def loss(params):
    y = layer.apply(params, x)
    y = y if isinstance(y, jax.Array) else y[0]
    # All terms of one sign, so that the sum keeps growing: the worst case for an accumulator.
    weight = jax.random.uniform(jax.random.key(2), y.shape, minval=0.5)
    return (weight * y.astype(jnp.float32)).sum()

  return jax.jit(jax.grad(loss))(params)


def _close(rounded, exact):
  scale = max(float(jnp.linalg.norm(g)) for g in jax.tree.leaves(exact))
  for (path, a), b in zip(jax.tree.leaves_with_path(rounded), jax.tree.leaves(exact), strict=True):
    assert a.dtype == jnp.float32
    # A gradient that cancels almost wholly, such as that of the bias of attention's keys, is compared with the others.
    error = float(jnp.linalg.norm(a - b)) / max(float(jnp.linalg.norm(b)), 1e-2 * scale)
    assert error < 0.03, f"{jax.tree_util.keystr(path)}: {error:.3f} off"
