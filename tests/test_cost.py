"""COST: operations and activations counted by hand, whatever lowering computes them."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from experiments.summary import parse_clip
from vu_jax.cost import forward_flops, stages
from vu_jax.errors import UserError
from vu_jax.layers.convolution.conv import conv3d
from vu_jax.layers.convolution.conv_modules import Conv3D
from vu_jax.layers.recurrence.recurrent import LSTM


def shape(*size: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(size, jnp.float32)


def test_a_convolution_counts_its_products():
  """2 x outputs x taps x channels: 3x3x3 over 64 to 64 channels, which Winograd would compute with fewer products."""
  flops = forward_flops(conv3d, shape(1, 4, 8, 8, 64), shape(3, 3, 3, 64, 64))
  assert flops == 2 * (4 * 8 * 8 * 64) * 27 * 64


def test_a_depthwise_convolution_counts_one_channel_per_output():
  """2 x outputs x taps, though it is computed without any convolution."""
  flops = forward_flops(lambda x, k: conv3d(x, k, groups=8), shape(1, 2, 4, 4, 8), shape(3, 3, 3, 1, 8))
  assert flops == 2 * (2 * 4 * 4 * 8) * 27


def test_a_stem_counts_its_window():
  """7x7 stride 2 on three channels: no taps added by the lowering's larger blocks."""
  flops = forward_flops(lambda x, k: conv3d(x, k, (1, 2, 2)), shape(1, 1, 32, 32, 3), shape(1, 7, 7, 3, 64))
  assert flops == 2 * (16 * 16 * 64) * 49 * 3


def test_loops_count_every_turn():
  """An LSTM of width 6 over 40 frames of 5 features: input and hidden products of four gates at each."""
  layer = LSTM(6)
  video = shape(1, 40, 5)
  variables = jax.eval_shape(layer.init, jax.random.key(0), video)
  assert forward_flops(lambda v, x: layer.apply(v, x), variables, video) == 2 * 40 * (5 + 6) * 4 * 6


class TwoStages(nn.Module):
  @nn.compact
  def __call__(self, video, *, train):
    del train
    x = Conv3D(4, (1, 1, 1), name="first")(video)
    return Conv3D(2, (1, 1, 1), use_bias=False, name="second")(x)


def test_stages_add_up():
  """Two pointwise convolutions on 1x2x3x3 positions; the network is the sum of both."""
  whole, first, second = stages(TwoStages(), shape(1, 2, 3, 3, 3), 1, train=False)
  assert (first.path, first.parameters, first.flops, first.activations) == ("first", 16, 2 * 18 * 12, 18 * 4 * 4)
  assert (second.path, second.parameters, second.flops, second.activations) == ("second", 8, 2 * 18 * 8, 18 * 2 * 4)
  assert whole.parameters == 24
  assert whole.flops == first.flops + second.flops
  assert whole.activations == first.activations + second.activations


@pytest.mark.parametrize("text", ["16x112", "16x0x3", "axbxc", "16"])
def test_a_clip_that_is_none_is_refused(text: str):
  with pytest.raises(UserError, match="frames x height x width"):
    parse_clip(text)


def test_summary_program_prints_published_counts():
  """R(2+1)D-18: 31,505,325 parameters with 400 classes and 40.5 G multiply-adds (torchvision's own figures)."""
  command = [sys.executable, "-m", "experiments.summary", "resnet3d", "--preset=r2plus1d_18", "--clip=16x112x112"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert "31,505,325" in done.stdout
  assert "81.038" in done.stdout
