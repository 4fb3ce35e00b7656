"""Patch and tubelet embedding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import peer

from vu_jax.layers.attention.embed import PatchEmbed, embed_tubelets, inflate
from vu_jax.layers.convolution.conv import conv3d

KEY = jax.random.key(0)


def normal(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_a_tubelet_by_hand():
  """With a kernel that sums time and row 0, and one that picks a corner, the tokens are those sums and corners."""
  video = jnp.arange(2 * 2 * 4, dtype=jnp.float32).reshape(1, 2, 2, 4, 1)
  kernel = np.zeros((2, 2, 2, 1, 2), np.float32)
  kernel[:, 0, :, 0, 0] = 1
  kernel[1, 1, 0, 0, 1] = 1
  tokens = embed_tubelets(video, jnp.asarray(kernel))
  np.testing.assert_array_equal(tokens[0, 0, 0], [[0 + 1 + 8 + 9, 12], [2 + 3 + 10 + 11, 14]])


def test_tubelets_are_a_convolution():
  """Values and both gradients equal those of a convolution with strides as large as the kernel."""
  video, kernel, mix = normal(1, 2, 4, 6, 8, 3), normal(2, 2, 3, 4, 3, 5), normal(3, 2, 2, 2, 2, 5)

  def matmul(video, kernel):
    return (embed_tubelets(video, kernel) * mix).sum(), embed_tubelets(video, kernel)

  def conv(video, kernel):
    out = conv3d(video, kernel, (2, 3, 4), "VALID")
    return (out * mix).sum(), out

  ours, plain = (jax.value_and_grad(f, argnums=(0, 1), has_aux=True)(video, kernel) for f in (matmul, conv))
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_patches_that_overlap_are_a_convolution_with_bias():
  """The stem of MViT: kernel, strides and padding go to the convolution, and the bias is added."""
  model = PatchEmbed(5, patch=(3, 7, 7), strides=(2, 4, 4), padding=(1, 3, 3))
  video = normal(1, 1, 4, 16, 12, 3)
  params = model.init(KEY, video)["params"] | {"bias": jnp.arange(5.0)}
  tokens = model.apply({"params": params}, video)
  assert tokens.shape == (1, 2, 4, 3, 5)
  expected = conv3d(video, params["kernel"], (2, 4, 4), ((1, 1), (3, 3), (3, 3)))
  np.testing.assert_allclose(tokens - jnp.arange(5.0), expected, rtol=1e-4, atol=1e-5)


def test_padding_without_overlap_is_not_ignored():
  """ "SAME" makes any size fit: the odd frame gets a token of its own and zeros."""
  video = normal(1, 1, 3, 4, 4, 2)
  model = PatchEmbed(5, patch=(2, 4, 4), padding="SAME")
  tokens, variables = model.init_with_output(KEY, video)
  filled = jnp.pad(video, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
  np.testing.assert_allclose(tokens, embed_tubelets(filled, variables["params"]["kernel"]), rtol=1e-4, atol=1e-5)


def test_patches_of_one_frame_do_not_mix_frames():
  """With kt = 1 the tokens of a frame are those of the frame alone (TimeSformer)."""
  model, video = PatchEmbed(6, patch=(1, 4, 4)), normal(1, 1, 3, 8, 8, 3)
  tokens, variables = model.init_with_output(KEY, video)
  np.testing.assert_allclose(tokens[:, 1:2], model.apply(variables, video[:, 1:2]), rtol=1e-5, atol=1e-6)


@settings(max_examples=15)
@given(st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(1, 3)] * 3))
def test_token_grid(grid: tuple[int, int, int], patch: tuple[int, int, int]):
  """A video of n patches along an axis has n tokens there, for any patch (shapes only)."""
  size = [n * k for n, k in zip(grid, patch, strict=True)]
  video = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
  tokens, variables = jax.eval_shape(PatchEmbed(7, patch=patch).init_with_output, KEY, video)
  assert tokens.shape == (2, *grid, 7)
  assert variables["params"]["kernel"].shape == (*patch, 3, 7)


@pytest.mark.parametrize("mode", ["mean", "central"])
@pytest.mark.parametrize("kt", [1, 2, 3])
def test_inflated_kernels_see_a_still_clip_as_the_image(mode: str, kt: int):
  """On a clip of one repeated frame the inflated model gives what the image model gives."""
  image, kernel = normal(1, 1, 1, 8, 8, 3), normal(2, 4, 4, 3, 5)
  still = jnp.broadcast_to(image, (1, kt, 8, 8, 3))
  ours = embed_tubelets(still, inflate(kernel, kt, mode))
  np.testing.assert_allclose(ours, embed_tubelets(image, kernel[None]), rtol=1e-4, atol=1e-5)


def test_inflation_by_hand():
  """ "mean" shares the kernel out over the frames, "central" gives it to frame kt // 2."""
  kernel = jnp.full((1, 1, 1, 1), 6.0)
  assert inflate(kernel, 3, "mean").ravel().tolist() == [2, 2, 2]
  assert inflate(kernel, 3, "central").ravel().tolist() == [0, 6, 0]
  assert inflate(kernel, 2, "central").ravel().tolist() == [0, 6]
  with pytest.raises(ValueError, match="kt 0"):
    inflate(kernel, 0)


@pytest.mark.parametrize(
  ("size", "message"),
  [
    ((3, 32, 32), "time is 3: patches need a multiple of 2, such as 2 or 4"),
    ((1, 32, 32), r"time is 1: patches need a multiple of 2, such as 2(?! or)"),
    ((2, 40, 32), "height is 40: patches need a multiple of 16, such as 32 or 48"),
    ((2, 32, 31), "width is 31: patches need a multiple of 16, such as 16 or 32"),
  ],
)
def test_sizes_that_do_not_divide_are_named_with_those_that_do(size: tuple[int, ...], message: str):
  """The error says which axis, how long it is, and the nearest lengths that work."""
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(PatchEmbed(4).init, KEY, jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))


@pytest.mark.parametrize("strides", [None, (1, 2, 2)])
def test_bfloat16(strides: tuple[int, int, int] | None):
  """Parameters stay float32, tokens become bfloat16 and stay within 2 % of the float32 ones."""
  video = normal(1, 1, 2, 8, 8, 3)
  exact, variables = PatchEmbed(8, (2, 4, 4), strides).init_with_output(KEY, video)
  rough = PatchEmbed(8, (2, 4, 4), strides, dtype="bfloat16").apply(variables, video)
  assert rough.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  assert 0 < jnp.linalg.norm(rough.astype(jnp.float32) - exact) < 0.02 * jnp.linalg.norm(exact)


def test_parity_with_torch():
  """A torch Conv3d with its weight transposed gives the same tokens, without overlap and with it."""
  torch = peer("torch")
  video = normal(1, 1, 4, 16, 16, 3)
  for patch, strides, padding in (((2, 4, 4), (2, 4, 4), 0), ((3, 7, 7), (2, 4, 4), (1, 3, 3))):
    conv = torch.nn.Conv3d(3, 6, patch, strides, padding)
    with torch.no_grad():
      theirs = conv(torch.from_numpy(np.array(video.transpose(0, 4, 1, 2, 3)))).numpy().transpose(0, 2, 3, 4, 1)
    kernel, bias = (jnp.asarray(p.detach().numpy()) for p in (conv.weight, conv.bias))
    params = {"kernel": kernel.transpose(2, 3, 4, 1, 0), "bias": bias}
    model = PatchEmbed(6, patch, strides, padding if padding else "VALID")
    np.testing.assert_allclose(model.apply({"params": params}, video), theirs, rtol=1e-4, atol=1e-5)
