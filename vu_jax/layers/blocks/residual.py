"""Residual networks over video: stem, blocks and stages, of which frame ResNets, R3D, CSN, SlowFast and X3D are tables.

A window is (t h w). One of (1 k k) sees single frames and is as fast as a 2-D convolution, so a frame ResNet is a 3-D
one with t = 1. Windows are padded by half on both sides, as in torch; no convolution has a bias, since each has a norm
behind it. The factor of a block's last norm starts at zero, so that every block starts as the identity (Goyal et al.
2017, "Accurate, large minibatch SGD", section 5.1).
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv_modules import Conv3D, DepthwiseConv3D, Norm
from vu_jax.layers.convolution.factorised import Conv2Plus1D, middle_channels
from vu_jax.layers.convolution.pool import max_pool
from vu_jax.layers.drop import DropPath, depth_rates
from vu_jax.layers.gates import SqueezeExcite
from vu_jax.layers.initial import he_fan_out
from vu_jax.layers.precision import Dtype

Window: TypeAlias = tuple[int, int, int]
Form: TypeAlias = Literal["full", "2+1d", "depthwise"]
Middle: TypeAlias = Literal["convolution", "block"]
Block: TypeAlias = Callable[..., nn.Module]
See: TypeAlias = Callable[[int, Array], Array]

ONE: Window = (1, 1, 1)


def convolution(
  form: Form,
  features: int,
  window: Window,
  strides: Window = ONE,
  *,
  norm: Norm,
  middle: int | None = None,
  dtype: Dtype = "float32",
  name: str,
) -> nn.Module:
  """A convolution without bias, to be called in a compact method: `(B T H W C) -> (B t h w features)`.

  Args:
    form: "full"; "2+1d", in space and then in time with `norm`, ReLU and `middle` channels between (see
      `Conv2Plus1D`); "depthwise", where `features` must be C.
    features, window, strides, norm, middle, dtype, name: as fields of the modules.
  """
  common: dict[str, Any] = dict(padding=[k // 2 for k in window], kernel_init=he_fan_out, dtype=dtype, name=name)
  match form:
    case "full":
      return Conv3D(features, window, strides, use_bias=False, **common)
    case "2+1d":
      return Conv2Plus1D(features, window, strides, middle=middle, norm=norm, **common)
    case "depthwise":
      return DepthwiseConv3D(window, strides, use_bias=False, **common)


class Stem(nn.Module):
  """Convolution of stride (1 2 2), norm, ReLU, then a 3x3 max pool of stride 2: `(B T H W C) -> (B T h w features)`.

  Fields:
    norm: its constructor, see `norm.batch_norm`.
    middle: above 0, the window is taken in space, to so many channels, norm, ReLU, and then in time (R(2+1)D).
    pool: whether there is the max pool.
  """

  features: int
  norm: Norm
  window: Window = (1, 7, 7)
  middle: int = 0
  pool: bool = True
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    conv = partial(convolution, "full", norm=self.norm, dtype=self.dtype)
    time, height, width = self.window
    first = (1, height, width) if self.middle else self.window
    x = conv(self.middle or self.features, first, (1, 2, 2), name="conv")(video)
    x = nn.relu(self.norm(name="norm")(x))
    if self.middle:
      x = conv(self.features, (time, 1, 1), name="time")(x)
      x = nn.relu(self.norm(name="time_norm")(x))
    return max_pool(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)) if self.pool else x


class BasicBlock(nn.Module):
  """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))): `(B T H W C) -> (B t h w features)`.

  Fields:
    norm: its constructor.
    window: of both convolutions; the first has the `strides`.
    form: of both.
    middle: of "2+1d": channels between space and time that keep the parameters of the full window, for each
      "convolution" or for the first one of the "block", as in torchvision.
    drop_path: probability that a clip skips the block in training.

  The call takes `seen`, what the residual branch sees instead of x (TSM shifts it), of the same shape.

  Source: He et al. 2016, "Deep residual learning", figure 5, left; Tran et al. 2018, "A closer look".
  """

  features: int
  norm: Norm
  window: Window = (1, 3, 3)
  strides: Window = ONE
  form: Form = "full"
  middle: Middle = "convolution"
  drop_path: float = 0.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T H W C"], seen: Float[Array, "B T H W C"] | None = None, *, train: bool
  ) -> Float[Array, "B t h w D"]:
    middle = _middle(self, x.shape[-1], self.features)
    conv = partial(convolution, self.form, norm=self.norm, middle=middle, dtype=self.dtype)
    y = conv(self.features, self.window, self.strides, name="conv1")(x if seen is None else seen)
    y = conv(self.features, self.window, name="conv2")(nn.relu(self.norm(name="norm1")(y)))
    return _joined(self, x, self.norm(name="norm2", scale_init=nn.initializers.zeros)(y), train)


class Bottleneck(nn.Module):
  """Three convolutions, narrow (or, in X3D, wide) in the middle: `(B T H W C) -> (B t h w features)`.

  conv1 to `inner` channels, norm, ReLU, conv2 with the strides, norm, [gate], activation, 1x1x1 conv3 to `features`
  channels, norm; plus the shortcut; ReLU.

  Fields:
    norm: its constructor.
    first, window: of conv1 and conv2. (3 1 1) and (1 3 3) is an I3D or SlowFast block.
    form, middle: of conv2, see `BasicBlock`; "depthwise" in CSN and X3D.
    mix: a 1x1x1 convolution and a norm before conv2, which preserve the interaction of channels that "depthwise" lacks.
    gate: ratio of squeeze-excite behind conv2; 0 = none.
    activation: behind conv2 and its gate.
    drop_path, and `seen` in the call: as in `BasicBlock`.

  Source: He et al. 2016, figure 5, right, with the stride in the 3x3 convolution (torchvision's "v1.5"); Tran et al.
    2019, "CSN", figure 2; Feichtenhofer 2020, "X3D", table 1.
  """

  features: int
  inner: int
  norm: Norm
  first: Window = ONE
  window: Window = (1, 3, 3)
  strides: Window = ONE
  form: Form = "full"
  middle: Middle = "convolution"
  mix: bool = False
  gate: float = 0.0
  activation: Callable[[Array], Array] = nn.relu
  drop_path: float = 0.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T H W C"], seen: Float[Array, "B T H W C"] | None = None, *, train: bool
  ) -> Float[Array, "B t h w D"]:
    conv = partial(convolution, norm=self.norm, dtype=self.dtype)
    y = conv("full", self.inner, self.first, name="conv1")(x if seen is None else seen)
    y = nn.relu(self.norm(name="norm1")(y))
    if self.mix:
      y = self.norm(name="mix_norm")(conv("full", self.inner, ONE, name="mix")(y))
    conv2 = conv(
      self.form, self.inner, self.window, self.strides, middle=_middle(self, x.shape[-1], self.inner), name="conv2"
    )
    y = self.norm(name="norm2")(conv2(y))
    if self.gate:
      y = SqueezeExcite(self.gate, self.dtype, name="gate")(y)
    y = conv("full", self.features, ONE, name="conv3")(self.activation(y))
    return _joined(self, x, self.norm(name="norm3", scale_init=nn.initializers.zeros)(y), train)


def _middle(block: BasicBlock | Bottleneck, channels: int, features: int) -> int | None:
  return middle_channels(block.window, channels, features) if block.middle == "block" else None


def _joined(block: BasicBlock | Bottleneck, x: Array, y: Array, train: bool) -> Array:
  """relu(shortcut + branch): the shortcut is a 1x1x1 convolution and a norm where the shape changes."""
  if block.strides != ONE or x.shape[-1] != block.features:
    conv = convolution("full", block.features, ONE, block.strides, norm=block.norm, dtype=block.dtype, name="shortcut")
    x = block.norm(name="shortcut_norm")(conv(x))
  return nn.relu(x + DropPath(block.drop_path)(y, train=train))


class Stage(nn.Module):
  """Blocks one after the other, `block0`, `block1`, ...: `(B T H W C) -> (B t h w D)`.

  Fields:
    blocks: constructors, which lack only the name; see `strided`.
    remat: compute the blocks again in the backward pass instead of keeping what is inside of them.

  The call takes `see(i, x)`: what the residual branch of block i sees instead of its input x.
  """

  blocks: Sequence[Block]
  remat: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "B T H W C"], see: See | None = None, *, train: bool) -> Float[Array, "B t h w D"]:
    def run(block: nn.Module, x: Array, seen: Array | None) -> Array:
      return block(x, seen, train=train)

    for i, block in enumerate(self.blocks):
      call = nn.remat(run) if self.remat else run
      x = call(block(name=f"block{i}"), x, see(i, x) if see else None)
    return x


def strided(block: Block, strides: Window, rates: Sequence[float]) -> list[Block]:
  """Constructors of a stage's blocks, one per drop path rate, the first of which strides."""
  return [partial(block, strides=ONE if i else strides, drop_path=rate) for i, rate in enumerate(rates)]


def inflated(blocks: Sequence[Block], times: Sequence[int]) -> list[Block]:
  """The bottlenecks, with first convolutions over t x 1 x 1; t goes through `times` in turn and begins again."""
  return [partial(block, first=(t, 1, 1)) for block, t in zip(blocks, itertools.cycle(times), strict=False)]


def stage_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
  """Drop path rates of every stage's blocks: they grow linearly over all blocks, see `depth_rates`."""
  rates = iter(depth_rates(rate, sum(depths)))
  return [[next(rates) for _ in range(depth)] for depth in depths]
