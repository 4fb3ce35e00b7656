"""Scans over time whose weight gradients leave the loop.

Ordinary autodiff of a scan adds, in every step of the reverse loop, this step's weight gradient to an accumulator: one
small matmul or convolution per step (and on the CPU, a very slow one). The gradient of a linear map y_t = K x_t is a
sum over time, so it can wait until the reverse loop has delivered all cotangents of y_t, and then is one large matmul
or convolution over the merged (time x batch), as cuDNN does for LSTMs (Appleyard et al. 2016, section 3.2).

How: all recurrent linear maps of a cell are `RecurrentMap`s. Where `scan` asks for it, a map records its input and adds
a tap, a variable that is zero and whose cotangent is that of the map's output. `scan` differentiates the lifted cell
with the kernels held constant, and gets their gradients from the recorded inputs and the cotangents of the taps.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv import conv2d
from vu_jax.layers.precision import Dtype, cast

INPUTS, TAPS, TURNED = "recurrent_inputs", "recurrent_taps", "turned_kernels"
"""Collections; the entry of a map has the path of its kernel in "params"."""

TURN = {"cpu": True}
"""Backends where the loop gets, beside each kernel, the turned one: that of the map's input gradient.

XLA derives the same, but turns the kernel in every step. Convolutions then miss the CPU's fast path (a loop took 2 to 4
times as long), small matrix products took a tenth longer. That it is better left to XLA on other backends is a guess
which nobody has measured.
"""
LARGE = 2**19
"""Entries from which on a matrix is not turned: XLA's CPU multiplies by a large transposed matrix as fast."""

Tree = Any


class RecurrentMap(nn.Module):
  """The linear map from a state to pre-activations, inside a cell: `(B C) -> (B D)`, or `(B h w C) -> (B h w D)`.

  Outside of `scan` it is an ordinary layer. It may be called once per step.

  Fields:
    features: D.
    kernel_size: () for a matrix product, (kh, kw) for a convolution of stride 1 that keeps the size.
    scale: of the orthogonal kernel at the start.
    dtype: of the computation; the kernel is float32.
  """

  features: int
  kernel_size: tuple[int, ...] = ()
  scale: float = 1.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B *grid C"]) -> Float[Array, "B *grid D"]:
    shape = (*self.kernel_size, x.shape[-1], self.features)
    x, kernel = cast(self.dtype, x, self.param("kernel", nn.initializers.orthogonal(self.scale), shape))
    if self.has_variable(TURNED, "kernel"):
      y = _turned_map(x, kernel, cast(self.dtype, self.get_variable(TURNED, "kernel"))[0])
    else:
      y = conv2d(x, kernel) if self.kernel_size else x @ kernel
    if self.is_initializing():
      return y
    if self.has_variable(INPUTS, "kernel"):
      raise ValueError(f"recurrent map {'/'.join(self.path)} is called twice in one step; call it once on both inputs")
    _record(self, INPUTS, x)
    if self.has_variable(TAPS, "kernel"):
      return y + self.get_variable(TAPS, "kernel")
    _record(self, TAPS, y)
    return y


def _record(module: nn.Module, collection: str, value: Array) -> None:
  """Stores the value where the collection is mutable, which it is only when `scan` asks for it."""
  module.sow(collection, "kernel", value, init_fn=lambda: None, reduce_fn=lambda _, new: new)


@jax.custom_vjp
def _turned_map(x: Array, kernel: Array, turned: Array) -> Array:
  """The map; `turned` is the kernel of its input gradient. The kernels are constants."""
  return conv2d(x, kernel, lowering="") if kernel.ndim == 4 else x @ kernel


def _turned_map_backward(turned, dy):
  if turned.ndim == 2:
    return dy @ turned, None, None
  pads = [(k // 2, (k - 1) // 2) for k in turned.shape[:2]]
  return conv2d(dy, turned, padding=pads, lowering=""), None, None


_turned_map.defvjp(lambda x, kernel, turned: (_turned_map(x, kernel, turned), turned), _turned_map_backward)


def _turned(kernels: dict[tuple[str, ...], Array]) -> dict[tuple[str, ...], Array]:
  """Spatial axes reversed, input and output channels swapped; the barrier keeps XLA from undoing it in the loop."""
  if not TURN.get(jax.default_backend(), False):
    return {}
  worthwhile = {path: k for path, k in kernels.items() if k.ndim == 4 or k.size < LARGE}
  turned = {path: jnp.swapaxes(k[::-1, ::-1] if k.ndim == 4 else k, -1, -2) for path, k in worthwhile.items()}
  return jax.lax.optimization_barrier(turned)


def scan(
  step: Callable[[nn.Module, Tree, Tree], tuple[Tree, Tree]],
  cell: nn.Module,
  params: Tree,
  carry: Tree,
  xs: Tree,
  unroll: int = 1,
  remat: bool = False,
  reverse: bool = False,
) -> tuple[Tree, Tree]:
  """`carry, y_t = step(cell, carry, x_t)` for every t, with weight gradients outside of the loop.

  Args:
    step: calls the cell; pure, draws nothing random. What it needs per step comes in `xs`.
    cell: an unbound module (`parent=None`) whose recurrent linear maps are all `RecurrentMap`s. Its other parameters
      (biases, norms, peepholes) are differentiated inside of the loop, as they are small.
    params: of the cell.
    carry: the state before the first step.
    xs: arrays with time first, (T ...).
    unroll: steps per loop iteration.
    remat: recompute the steps in the backward pass instead of storing their intermediate values.
    reverse: run from the last step to the first.

  Returns:
    The state after the last step, and the y_t stacked, (T ...). Reverse mode only: `jax.jvp` raises.
  """
  body = nn.remat(step, prevent_cse=False) if remat else step
  lifted = nn.scan(
    body,
    variable_broadcast=["params", TURNED],
    variable_axes={INPUTS: 0, TAPS: 0},
    split_rngs={"params": False},
    unroll=unroll,
    reverse=reverse,
  )

  @jax.custom_vjp
  def run(params, carry, xs):
    return nn.apply(lifted, cell)({"params": params}, carry, xs)

  def forward(params, carry, xs):
    shapes = _shapes(step, cell, params, carry, xs)
    flat = flatten_dict(params)
    kernels = {path: flat.pop(path) for path in shapes}
    taps = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    turned = unflatten_dict(_turned(kernels))

    def loop(others, taps, carry, xs):
      variables = {"params": unflatten_dict(others | kernels), TAPS: unflatten_dict(taps), TURNED: turned}
      out, recorded = nn.apply(lifted, cell, mutable=[INPUTS])(variables, carry, xs)
      return out, flatten_dict(recorded[INPUTS])

    out, pull, inputs = jax.vjp(loop, flat, taps, carry, xs, has_aux=True)
    return out, (pull, kernels, inputs)

  def backward(residuals, cotangent):
    pull, kernels, inputs = residuals
    others, taps, carry, xs = pull(cotangent)
    gradients = {path: kernel_gradient(kernels[path], inputs[path], taps[path]) for path in kernels}
    return unflatten_dict(others | gradients), carry, xs

  run.defvjp(forward, backward)
  return run(params, carry, xs)


def _shapes(step, cell, params, carry, xs) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
  """Path of each recurrent kernel -> shape (T B ...) and dtype of its map's outputs, from one abstract step."""
  first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
  _, recorded = jax.eval_shape(nn.apply(step, cell, mutable=[INPUTS, TAPS]), {"params": params}, carry, first)
  length = jax.tree.leaves(xs)[0].shape[0]
  outputs = flatten_dict(recorded.get(TAPS, {}))
  return {path: jax.ShapeDtypeStruct((length, *y.shape), y.dtype) for path, y in outputs.items()}


def kernel_gradient(
  kernel: Float[Array, "*k C D"], inputs: Float[Array, "T B *grid C"], outputs: Float[Array, "T B *grid D"]
) -> Float[Array, "*k C D"]:
  """The gradient of a map's kernel, from all its inputs and the cotangents of all its outputs: one op."""
  x, dy = (rearrange(a, "t b ... -> (t b) ...") for a in (inputs, outputs))
  if kernel.ndim == 2:
    return jnp.einsum("n...c,n...d->cd", x, dy, preferred_element_type=jnp.float32)
  _, pull = jax.vjp(lambda k: conv2d(x, k.astype(x.dtype)), kernel)
  return pull(dy)[0]
