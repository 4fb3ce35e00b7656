"""LAYERS: every lowering of a convolution is the same convolution."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vu_jax.layers.convolution import conv
from vu_jax.layers.convolution.conv import conv2d, conv3d, conv_transpose2d, conv_transpose3d
from vu_jax.layers.convolution.conv_lowerings import applies
from vu_jax.layers.convolution.conv_modules import Conv2D, Conv3D, ConvTranspose3D, DepthwiseConv3D
from vu_jax.layers.convolution.conv_steps import METHODS
from vu_jax.layers.convolution.conv_table import Plan, choose
from vu_jax.layers.convolution.factorised import ChannelSeparatedConv3D, Conv2Plus1D, SeparableConv3D, middle_channels
from vu_jax.layers.convolution.window import Window

DENSE = [
  "",
  "xla",
  "h:winograd w:winograd",
  "t:winograd h:spread",
  "t:unfold h:depth w:depth",
  "t:taps h:depth w:unfold",
]
# hypothesis blames the strategies for what other threads draw; they use no random module.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")
NAMES = sorted({*DENSE, *(f"{a}:{m}" for a in "thw" for m in METHODS), "h:unfold w:unfold"})


def seen(size, window: Window, tap):
  """Index of what a tap sees in the padded input."""
  spans = zip(tap, window.dilation, size, window.strides, strict=True)
  return (slice(None), *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in spans))


def reference(x, kernel, window: Window, dy=None):
  """The definition in float64 numpy: outputs, and with `dy` both gradients."""
  x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
  sizes, groups = kernel.shape[:-2], window.groups
  wide = np.pad(x, [(0, 0), *window.pads, (0, 0)])
  axes = zip(wide.shape[1:-1], sizes, window.strides, window.dilation, strict=True)
  size = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in axes]
  y = np.zeros((len(x), *size, groups, kernel.shape[-1] // groups))
  dwide, dkernel = np.zeros_like(wide), np.zeros_like(kernel)
  split = lambda a: a.reshape(*a.shape[:-1], groups, -1)  # noqa: E731
  for tap in itertools.product(*map(range, sizes)):
    at = seen(size, window, tap)
    y += np.einsum("...gc,cgd->...gd", split(wide[at]), split(kernel[tap]))
    if dy is not None:
      g = split(np.asarray(dy, np.float64))
      dwide[at] += np.einsum("...gd,cgd->...gc", g, split(kernel[tap])).reshape(wide[at].shape)
      flat = [a.reshape(-1, *a.shape[-2:]) for a in (split(wide[at]), g)]
      dkernel[tap] = np.einsum("ngc,ngd->cgd", *flat).reshape(kernel[tap].shape)
  inner = tuple(slice(low, low + n) for (low, _), n in zip(window.pads, x.shape[1:-1], strict=True))
  return y.reshape(*y.shape[:-2], -1), dwide[(slice(None), *inner)], dkernel


def run(x, kernel, window: Window, lowering, dy):
  """(outputs, both gradients) of the public function, in one compilation."""
  function = conv3d if x.ndim == 5 else conv2d
  call = functools.partial(
    function,
    strides=window.strides,
    padding=window.pads,
    dilation=window.dilation,
    groups=window.groups,
    lowering=lowering,
  )

  @jax.jit
  def both(x, kernel, dy):
    y, pull = jax.vjp(call, x, kernel)
    return y, *pull(dy.astype(y.dtype))

  return both(x, kernel, dy)


def close(found, wanted, tolerance: float):
  for a, b in zip(found, wanted, strict=True):
    assert a.shape == b.shape
    assert np.abs(np.asarray(a, np.float64) - b).max() <= tolerance * max(np.abs(b).max(), 1e-3)


@st.composite
def problems(draw, lowering: str = "", groups: int = 1, axes: tuple[int, int] = (2, 3)):
  """Odd sizes, windows larger than the input, strides larger than both, made to suit a lowering."""
  n = 3 if "t:" in lowering else draw(st.integers(*axes))
  steps = dict(step.split(":") for step in lowering.split() if ":" in step)
  size, sizes, strides, pads, dilation = [], [], [], [], []
  for letter in "thw"[-n:]:
    method = steps.get(letter)
    k = 3 if method == "winograd" else draw(st.integers(2 if method else 1, 4))
    stride = 1 if method == "winograd" else draw(st.integers(2 if method == "depth" else 1, 3))
    d = 1 if method in ("winograd", "depth") else draw(st.sampled_from([1, 1, 2]))
    low, high = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    size.append(draw(st.integers(max((k - 1) * d + 1 - low - high, 1), 7)))
    sizes, strides, pads, dilation = [*sizes, k], [*strides, stride], [*pads, (low, high)], [*dilation, d]
  channels, features = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
  shape = (draw(st.integers(1, 2)), *size, channels)
  window = Window(tuple(strides), tuple(pads), tuple(dilation), groups)
  return shape, (*sizes, channels // groups, features), window, draw(st.integers(0, 99))


def arrays(problem):
  """Input, kernel, window and cotangent of one of the `problems`."""
  shape, kernel_shape, window, seed = problem
  rng = np.random.default_rng(seed)
  x, kernel = (rng.standard_normal(s).astype(np.float32) for s in (shape, kernel_shape))
  return x, kernel, window, rng.standard_normal(reference(x, kernel, window)[0].shape).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3, phases=[Phase.generate])
@given(data=st.data())
def test_every_lowering_is_the_convolution(name: str, data):
  """Values and both gradients, to 1e-5 of the largest entry, whatever the sizes."""
  x, kernel, window, dy = arrays(data.draw(problems(name)))
  close(run(x, kernel, window, name, dy), reference(x, kernel, window, dy), 1e-5)


@pytest.mark.parametrize("name", ["xla", "split", "shift"])
@settings(max_examples=4, phases=[Phase.generate])
@given(data=st.data())
def test_grouped_lowerings(name: str, data):
  """Groups do not see each other; depthwise is the case of one channel per group, with one or more outputs each."""
  x, kernel, window, dy = arrays(data.draw(problems(groups=3)))
  channels = x.shape[-1]
  if name == "shift":
    x, window = x[..., :3], Window(window.strides, window.pads, window.dilation, 3)
    kernel = kernel[..., :1, :]
    channels = 3
  assert applies(name, kernel.shape, window, channels)
  close(run(x, kernel, window, name, dy), reference(x, kernel, window, dy), 1e-5)


@settings(max_examples=200)
@given(
  kernel=st.lists(st.sampled_from([1, 2, 3, 5, 7]), min_size=2, max_size=3),
  strides=st.lists(st.integers(1, 3), min_size=3, max_size=3),
  dilation=st.sampled_from([1, 2]),
  channels=st.sampled_from([1, 3, 8, 64, 256]),
  features=st.sampled_from([8, 64]),
  groups=st.sampled_from([1, 1, 8]),
  backend=st.sampled_from(["cpu", "gpu", "tpu"]),
)
def test_the_table_only_names_what_applies(kernel, strides, dilation, channels, features, groups, backend):
  """Whatever the shape and the backend, the chosen lowerings can compute it."""
  n = len(kernel)
  window = Window(tuple(strides[-n:]), ((3, 3),) * n, (dilation,) * n, groups)
  plan = choose(backend, (1, *(9,) * n, channels * groups), (*kernel, channels, features * groups), window)
  for name in (plan.forward, plan.input_gradient, plan.kernel_gradient):
    assert applies(name, (*kernel, channels, features * groups), window, channels * groups)


CHOSEN = {
  "3x3x3": ((3, 3, 3), (1, 1, 1), 64, 8),
  "3x3": ((3, 3), (1, 1), 64, 8),
  "stem": ((3, 7, 7), (1, 2, 2), 3, 64),
  "stem, few outputs": ((5, 7, 7), (1, 2, 2), 3, 8),
  "temporal, strided": ((3, 1, 1), (2, 1, 1), 8, 8),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_lowerings_are_the_convolution(name: str):
  """Where forward pass and gradients are computed in different ways, they still belong together."""
  sizes, strides, channels, features = CHOSEN[name]
  window = Window(strides, tuple((k // 2, k // 2) for k in sizes), (1,) * len(sizes))
  rng = np.random.default_rng(0)
  x = rng.standard_normal((1, *(3, 9, 10)[-len(sizes) :], channels)).astype(np.float32)
  kernel = rng.standard_normal((*sizes, channels, features)).astype(np.float32)
  dy = rng.standard_normal(reference(x, kernel, window)[0].shape).astype(np.float32)
  close(run(x, kernel, window, None, dy), reference(x, kernel, window, dy), 1e-5)


@pytest.mark.parametrize(("groups", "channels"), [(1, 64), (4, 4)])
def test_bfloat16_is_float32_rounded_once(groups: int, channels: int):
  """A result and both gradients in bfloat16 are those of float32 to half a unit in the last place."""
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((1, 3, 5, 4, channels)), rng.standard_normal((3, 3, 3, channels // groups, 4))
  window = Window((1, 1, 1), ((1, 1),) * 3, (1, 1, 1), groups)
  x, kernel, dy = (jnp.asarray(a, jnp.bfloat16) for a in (x, kernel, rng.standard_normal((1, 3, 5, 4, 4))))
  found = run(x, kernel, window, None, dy)
  assert {a.dtype for a in found} == {jnp.dtype("bfloat16")}
  for a, b in zip(found, reference(x, kernel, window, dy), strict=True):
    assert (np.abs(np.asarray(a, np.float64) - b) <= np.abs(b) * 2**-8 + 1e-4 * np.abs(b).max()).all()


def test_padding_names():
  """SAME gives ceil(size / stride) outputs with the odd position behind; VALID pads nothing."""
  x, kernel = jnp.ones((1, 5, 6, 7, 2)), jnp.ones((2, 3, 3, 2, 1))
  assert jax.eval_shape(lambda: conv3d(x, kernel, (2, 2, 2))).shape == (1, 3, 3, 4, 1)
  assert jax.eval_shape(lambda: conv3d(x, kernel, padding="VALID")).shape == (1, 4, 4, 5, 1)
  assert jax.eval_shape(lambda: conv3d(x, kernel, padding=(1, 0, 1))).shape == (1, 6, 4, 7, 1)
  line = conv2d(jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1), jnp.ones((1, 2, 1, 1)))
  assert line.ravel().tolist() == [3, 5, 7, 4]


WRONG = {
  "groups = 4 must divide the 6 input and the 8": dict(groups=4),
  "6 channels, the kernel .* takes 12": dict(groups=2),
  "padding .* must not be negative": dict(padding=((0, 0), (-1, 0), (0, 0))),
  "spans 7 positions of time, the padded input has only 4": dict(padding="VALID", dilation=(3, 1, 1)),
  "strides .* must be at least 1": dict(strides=(1, 0, 1)),
  "strides .* has 2 numbers for 3 axes": dict(strides=(1, 1)),
  'lowering "w:winograd h:winograd" cannot': dict(strides=(1, 2, 1), lowering="w:winograd h:winograd"),
  'lowering "quick" cannot': dict(lowering="quick"),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_name_both_numbers(message: str):
  """One line says what does not fit."""
  x, kernel = jnp.ones((1, 4, 5, 5, 6)), jnp.ones((3, 3, 3, 6, 8))
  with pytest.raises(ValueError, match=message):
    conv.conv3d.__wrapped__(x, kernel, **WRONG[message])


def test_population_and_second_derivatives():
  """Kernels of several members through vmap equal one after the other; a mixed plan has second derivatives."""
  rng = np.random.default_rng(0)
  x, kernels = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((1, 4, 4, 2), (3, 3, 3, 2, 2)))
  window = Window((1, 1), ((1, 1), (1, 1)), (1, 1))

  def loss(kernel, plan):
    return (conv._mixed(x, kernel, window, plan) ** 3).sum()

  mixed, same = Plan("h:winograd", "w:unfold", ""), Plan("xla", "xla", "xla")
  grads = [jax.jit(jax.vmap(jax.grad(lambda k, p=p: loss(k, p))))(kernels) for p in (mixed, same)]
  np.testing.assert_allclose(*grads, rtol=1e-4, atol=1e-4)
  second = [jax.jit(jax.grad(lambda k, p=p: jnp.sum(jax.grad(loss)(k, p) ** 2)))(kernels[0]) for p in (mixed, same)]
  np.testing.assert_allclose(*second, rtol=1e-3, atol=1e-3 * np.abs(second[1]).max())


@settings(max_examples=6, phases=[Phase.generate])
@given(problem=problems(), name=st.sampled_from([None, ""]))
def test_transposed_is_the_adjoint(problem, name):
  """The transposed convolution by a kernel is the input gradient of the convolution by the same taps."""
  _, kernel, window, _ = arrays(problem)
  sizes = kernel.shape[:-2]
  strides = tuple(min(s, k) for s, k in zip(window.strides, sizes, strict=True))
  pads = tuple((min(a, k - 1), min(b, k - 1)) for (a, b), k in zip(window.pads, sizes, strict=True))
  window = Window(strides, pads, (1,) * len(sizes))
  small = (3, 2, 3)[-len(sizes) :]
  full = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(small, strides, sizes, pads, strict=True)]
  if min(full) < 1:
    return
  x = np.random.default_rng(1).standard_normal((2, *small, kernel.shape[-2])).astype(np.float32)
  function = conv_transpose3d if len(sizes) == 3 else conv_transpose2d
  y = function(jnp.asarray(x), jnp.asarray(kernel), strides, pads, lowering=name)
  turned = np.swapaxes(kernel, -1, -2)
  wanted = reference(np.zeros((2, *full, kernel.shape[-1])), turned, window, x)[1]
  close([y], [wanted], 1e-5)


def test_transposed_sizes_and_gradient():
  """SAME multiplies the size by the stride; gradients flow to input and kernel."""
  rng = np.random.default_rng(0)
  x, kernel = (jnp.asarray(rng.uniform(1, 2, s), jnp.float32) for s in ((1, 2, 3, 3, 2), (3, 4, 4, 2, 5)))
  assert jax.eval_shape(lambda: conv_transpose3d(x, kernel, (1, 2, 2))).shape == (1, 2, 6, 6, 5)
  grads = jax.jit(jax.grad(lambda x, k: (conv_transpose3d(x, k, (1, 2, 2)) ** 2).sum(), (0, 1)))(x, kernel)
  other = jax.jit(jax.grad(lambda x, k: (conv_transpose3d(x, k, (1, 2, 2), lowering="xla") ** 2).sum(), (0, 1)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, other(x, kernel))
  with pytest.raises(ValueError, match=r"strides .* are larger than the window"):
    conv_transpose2d(jnp.ones((1, 3, 3, 1)), jnp.ones((2, 2, 1, 1)), (3, 3))


def test_middle_channels_keep_the_parameters():
  """The numbers of R(2+1)D-18: 64 -> 64 goes through 144 channels, 64 -> 128 through 230, 512 -> 512 through 1152."""
  assert [middle_channels((3, 3, 3), *io) for io in ((64, 64), (64, 128), (512, 512))] == [144, 230, 1152]


def test_modules_are_their_parts():
  """The factorised forms are the convolutions they are named for, one after the other."""
  x = jax.random.normal(jax.random.key(0), (1, 3, 4, 5, 4))
  model = Conv2Plus1D(6, strides=(1, 2, 2), middle=5)
  params = model.init(jax.random.key(1), x)["params"]
  y = Conv3D(5, (1, 3, 3), (1, 2, 2)).apply({"params": params["spatial"]}, x)
  y = Conv3D(6, (3, 1, 1)).apply({"params": params["temporal"]}, nn.relu(y))
  np.testing.assert_allclose(model.apply({"params": params}, x), y, rtol=1e-5, atol=1e-6)
  separated = ChannelSeparatedConv3D(6)
  params = separated.init(jax.random.key(1), x)["params"]
  y = DepthwiseConv3D().apply({"params": params["depthwise"]}, x)
  y = y @ params["pointwise"]["kernel"][0, 0, 0] + params["pointwise"]["bias"]
  np.testing.assert_allclose(separated.apply({"params": params}, x), y, rtol=1e-5, atol=1e-6)


def test_modules_parameters_norm_and_dtype():
  """float32 parameters of the stated shapes, results in `dtype`, no bias beside a normalisation."""
  x = jnp.ones((1, 2, 4, 4, 4))
  norm = functools.partial(nn.GroupNorm, num_groups=1)
  made = {
    Conv2D(8, dtype="bfloat16"): {"kernel": (3, 3, 4, 8), "bias": (8,)},
    Conv3D(8, groups=2, use_bias=False, dtype="bfloat16"): {"kernel": (3, 3, 3, 2, 8)},
    DepthwiseConv3D(dtype="bfloat16"): {"kernel": (3, 3, 3, 1, 4), "bias": (4,)},
    ConvTranspose3D(8, (1, 4, 4), (1, 2, 2), dtype="bfloat16"): {"kernel": (1, 4, 4, 4, 8), "bias": (8,)},
  }
  for module, shapes in made.items():
    y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    assert {k: v.shape for k, v in variables["params"].items()} == shapes
    assert {v.dtype for v in variables["params"].values()} == {jnp.dtype("float32")}
    assert y.dtype == jnp.bfloat16
  separable = jax.eval_shape(SeparableConv3D(8, norm=norm).init, jax.random.key(0), x)["params"]
  assert {k: set(v) for k, v in separable.items()} == {
    "spatial": {"kernel"},
    "norm": {"scale", "bias"},
    "temporal": {"kernel"},
  }


@pytest.mark.parametrize(("size", "remains"), [((2, 2), False), ((2, 5, 5), True), ((2, 3, 3), False), ((4, 4), True)])
def test_maps_smaller_than_the_window_are_matrix_products(size, remains: bool):
  """XLA's convolution of them is slow: none is left, forwards and backwards."""
  x, kernel = jnp.ones((1, *size, 4)), jnp.ones((*(3,) * len(size), 4, 4))
  function = functools.partial(conv3d if len(size) == 3 else conv2d, lowering="")
  program = str(jax.make_jaxpr(lambda x, k: jax.vjp(function, x, k)[1](function(x, k)))(x, kernel))
  assert ("conv_general_dilated" in program) is remains


@pytest.mark.parametrize("lowering", ["xla", ""])
def test_gradient_that_xla_aborts_on(lowering: str):
  """Found by drawing shapes: strides that differ, and 8 outputs of 6 taps."""
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((2, 4, 6, 2)).astype(np.float32), rng.standard_normal((3, 2, 2, 1)).astype(np.float32)
  window = Window((3, 2), ((2, 2), (1, 2)), (2, 1))
  dy = rng.standard_normal(reference(x, kernel, window)[0].shape).astype(np.float32)
  close(run(x, kernel, window, lowering, dy), reference(x, kernel, window, dy), 1e-5)
