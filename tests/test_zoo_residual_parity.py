"""MODEL: the residual networks give the numbers of torch with torch's weights.

torchvision's and PyTorchVideo's own, and two that are put together here: VMZ's of torchvision's blocks, PySlowFast's
written after its parameters' names, because neither can be installed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest

from experiments.benchmarks.models.torch_models import pytorchvideo_net
from vu_jax.config import find_module
from vu_jax.tasks.classify import Head
from vu_jax.weights import pyslowfast, pytorchvideo, torchvision, vmz
from vu_jax.weights.carry import Rule, carry

CLASSES = 5
DEPTH = 2  # blocks per stage of the networks that are put together here
CLIPS = [(4, 32, 32), (5, 45, 37)]  # frames, height, width


def shift(x: Any) -> Any:
  """TSM's, of (T C H W): an eighth of the channels from the next frame, an eighth from the one before."""
  torch, fold = peers.peer("torch"), x.shape[1] // 8
  ends = torch.zeros_like(x[:1])
  after, before = torch.cat([x[1:], ends]), torch.cat([ends, x[:-1]])
  return torch.cat([after[:, :fold], before[:, fold : 2 * fold], x[:, 2 * fold :]], dim=1)


def frames(chosen: str, shifted: bool = False) -> Any:
  """torchvision's ResNet, classifying (1 C T H W) frame by frame."""
  net = getattr(peers.peer("torchvision.models"), chosen)(num_classes=CLASSES)
  for name, module in net.named_modules() if shifted else ():
    if name.endswith("conv1") and name != "conv1":
      module.register_forward_pre_hook(lambda _, inputs: (shift(inputs[0]),))
  return net, lambda video: net(video[0].transpose(0, 1)).mean(0, keepdim=True)


def video_resnet(chosen: str) -> Any:
  net = getattr(peers.peer("torchvision.models.video"), chosen)(num_classes=CLASSES)
  return net, net


def csn(preserved: bool) -> Any:
  """VMZ's CSN: torchvision's bottlenecks around depthwise convolutions, and a pool."""
  nn, resnet = peers.peer("torch").nn, peers.peer("torchvision.models.video.resnet")

  class Depthwise(nn.Conv3d):
    def __init__(self, inputs, outputs, middle, stride=1, padding=1):
      super().__init__(inputs, outputs, 3, stride, padding, groups=inputs, bias=False)

    @staticmethod
    def get_downsample_stride(stride):
      return (stride,) * 3

  class Mixed(nn.Sequential):
    get_downsample_stride = Depthwise.get_downsample_stride

    def __init__(self, inputs, outputs, middle, stride=1, padding=1):
      mix = nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs)
      super().__init__(*mix, Depthwise(outputs, outputs, middle, stride, padding))

  class PooledStem(nn.Sequential):
    def __init__(self):
      super().__init__(*resnet.BasicStem(), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))

  convolutions = [Mixed if preserved else Depthwise] * 4
  net = resnet.VideoResNet(resnet.Bottleneck, convolutions, [DEPTH] * 4, PooledStem, num_classes=CLASSES)
  for module in net.modules():
    if isinstance(module, nn.BatchNorm3d):
      module.eps = 1e-3
  return net, net


class Named:
  """Functions of torch on tensors that are kept, and made when first asked for, under PySlowFast's names."""

  def __init__(self) -> None:
    self.torch = peers.peer("torch")
    self.tensors: dict[str, Any] = {}

  def tensor(self, name: str, *shape: int) -> Any:
    return self.tensors.setdefault(name, self.torch.empty(shape))

  def conv(self, name: str, x: Any, width: int, window: tuple[int, int, int], stride=(1, 1, 1), groups: int = 1) -> Any:
    kernel = self.tensor(f"{name}.weight", width, x.shape[1] // groups, *window)
    padding = tuple(k // 2 for k in window)
    return self.torch.nn.functional.conv3d(x, kernel, None, stride, padding, groups=groups)

  def norm(self, name: str, x: Any) -> Any:
    parts = ("running_mean", "running_var", "weight", "bias")
    return self.torch.nn.functional.batch_norm(x, *(self.tensor(f"{name}.{part}", x.shape[1]) for part in parts))

  def linear(self, name: str, x: Any, width: int, bias: bool = True) -> Any:
    """Of (B C), with the weight of a layer, or of a 1x1x1 convolution where the name is not the head's."""
    ones = () if name == "head.projection" else (1, 1, 1)
    y = x @ self.tensor(f"{name}.weight", width, x.shape[1], *ones).flatten(1).T
    return y + self.tensor(f"{name}.bias", width) if bias else y

  def stem(self, name: str, x: Any, width: int, time: int) -> Any:
    functional = self.torch.nn.functional
    x = self.norm(f"{name}.bn", self.conv(f"{name}.conv", x, width, (time, 7, 7), (1, 2, 2))).relu()
    return functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))

  def block(self, name: str, x: Any, width: int, inner: int, step: int, time: int = 1, gate: int = -1) -> Any:
    """A bottleneck; gate >= 0 makes it X3D's, with so many channels in its squeeze-excite."""
    torch, b, stride = self.torch, f"{name}.branch2", (1, step, step)
    y = self.norm(f"{b}.a_bn", self.conv(f"{b}.a", x, inner, (time, 1, 1))).relu()
    window, groups = ((1, 3, 3), 1) if gate < 0 else ((3, 3, 3), inner)
    y = self.norm(f"{b}.b_bn", self.conv(f"{b}.b", y, inner, window, stride, groups))
    if gate > 0:
      hidden = self.linear(f"{b}.se.fc1", y.mean((2, 3, 4)), gate).relu()
      y = y * self.linear(f"{b}.se.fc2", hidden, inner).sigmoid()[:, :, None, None, None]
    y = y.relu() if gate < 0 else torch.nn.functional.silu(y)
    y = self.norm(f"{b}.c_bn", self.conv(f"{b}.c", y, width, (1, 1, 1)))
    if step != 1 or x.shape[1] != width:
      x = self.norm(f"{name}.branch1_bn", self.conv(f"{name}.branch1", x, width, (1, 1, 1), stride))
    return (x + y).relu()

  def parameters(self, video: Any, run: Callable[[Any], Any]) -> dict[str, Any]:
    """All tensors, made by a first call."""
    run(video)
    return self.tensors


def i3d() -> Any:
  n = Named()

  def run(video: Any) -> Any:
    x = n.stem("s1.pathway0_stem", video, 64, 5)
    for s, times in enumerate(((3, 3), (3, 1), (3, 1), (1, 3))):
      for b in range(DEPTH):
        step = 2 if s and not b else 1
        x = n.block(f"s{s + 2}.pathway0_res{b}", x, 256 << s, 64 << s, step, times[b])
      x = n.torch.nn.functional.max_pool3d(x, (2, 1, 1)) if s == 0 else x
    return n.linear("head.projection", x.mean((2, 3, 4)), CLASSES)

  return n, run


def slowfast() -> Any:
  """8x8 with alpha 4."""
  n = Named()

  def run(video: Any) -> Any:
    paths = [n.stem("s1.pathway0_stem", video[:, :, ::4], 64, 1), n.stem("s1.pathway1_stem", video, 8, 5)]
    for s in range(4):
      fuse, width = f"s{s + 1}_fuse", 2 * paths[1].shape[1]
      flow = n.norm(f"{fuse}.bn", n.conv(f"{fuse}.conv_f2s", paths[1], width, (7, 1, 1), (4, 1, 1))).relu()
      paths[0] = n.torch.cat([paths[0], flow], dim=1)
      for p, (width, time) in enumerate(((64, 1 if s < 2 else 3), (8, 3))):
        for b in range(DEPTH):
          step = 2 if s and not b else 1
          name = f"s{s + 2}.pathway{p}_res{b}"
          paths[p] = n.block(name, paths[p], 4 * width << s, width << s, step, time)
    return n.linear("head.projection", n.torch.cat([x.mean((2, 3, 4)) for x in paths], dim=1), CLASSES)

  return n, run


def x3d() -> Any:
  n = Named()

  def run(video: Any) -> Any:
    x = n.conv("s1.pathway0_stem.conv_xy", video, 24, (1, 3, 3), (1, 2, 2))
    x = n.norm("s1.pathway0_stem.bn", n.conv("s1.pathway0_stem.conv", x, 24, (5, 1, 1), groups=24)).relu()
    for s, (width, inner, gate) in enumerate(((24, 54, 8), (48, 108, 8), (96, 216, 16), (192, 432, 32))):
      for b in range(DEPTH):
        x = n.block(f"s{s + 2}.pathway0_res{b}", x, width, inner, 1 if b else 2, gate=0 if b % 2 else gate)
    x = n.norm("head.conv_5_bn", n.conv("head.conv_5", x, 432, (1, 1, 1))).relu()
    x = n.linear("head.lin_5", x.mean((2, 3, 4)), 2048, bias=False).relu()
    return n.linear("head.projection", x, CLASSES)

  return n, run


def video_net(model: str, **options: Any) -> Any:
  peers.peer("pytorchvideo")
  net = pytorchvideo_net(model, CLASSES, **options)
  return net, (lambda video: net([video[:, :, ::4], video])) if model == "slowfast" else net


SHALLOW = {"depths": (DEPTH,) * 4}
Case = tuple[str, str, dict[str, Any], Callable[[], Any], dict[str, tuple[Rule, ...]]]
CASES: dict[str, Case] = {
  "resnet18": ("resnet", "resnet18", {}, lambda: frames("resnet18"), torchvision.RULES),
  "resnet50": ("resnet", "resnet50", {}, lambda: frames("resnet50"), torchvision.RULES),
  "tsm_r18": ("tsm", "tsm_r18", {}, lambda: frames("resnet18", shifted=True), torchvision.RULES),
  "r3d_18": ("resnet3d", "r3d_18", {}, lambda: video_resnet("r3d_18"), torchvision.RULES),
  "mc3_18": ("resnet3d", "mc3_18", {}, lambda: video_resnet("mc3_18"), torchvision.RULES),
  "r2plus1d_18": ("resnet3d", "r2plus1d_18", {}, lambda: video_resnet("r2plus1d_18"), torchvision.RULES),
  "ir_csn": ("csn", "ir_csn_50", SHALLOW, lambda: csn(False), vmz.RULES),
  "ip_csn": ("csn", "ip_csn_50", SHALLOW, lambda: csn(True), vmz.RULES),
  "pytorchvideo csn": ("csn", "ir_csn_50", {}, lambda: video_net("csn"), pytorchvideo.RULES),
  "pytorchvideo slow": ("resnet3d", "slow_r50", {}, lambda: video_net("resnet3d"), pytorchvideo.RULES),
  "i3d_r50": ("resnet3d", "i3d_r50", SHALLOW, i3d, pyslowfast.RULES),
  "slowfast": ("slowfast", "r50_8x8", SHALLOW, slowfast, pyslowfast.RULES),
  "x3d": ("x3d", "x3d_m", SHALLOW, x3d, pyslowfast.RULES),
  "pytorchvideo slowfast": ("slowfast", "r50_8x8", {}, lambda: video_net("slowfast"), pytorchvideo.RULES),
  "pytorchvideo x3d": (
    "x3d",
    "x3d_m",
    {"depths": (1, 2, 5, 3)},
    lambda: video_net("x3d", depth_factor=1),
    pytorchvideo.RULES,
  ),
}


def randomise(tensors: dict[str, Any]) -> None:
  """Every parameter and statistic random; kernels keep the size of what they see."""
  generator = peers.peer("torch").Generator().manual_seed(0)
  for name, value in tensors.items():
    if value.ndim > 1:
      value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
    elif name.endswith(("running_var", "weight")):
      value.uniform_(0.5, 1.5, generator=generator)
    elif value.ndim == 1:
      value.normal_(0, 0.3, generator=generator)


@functools.cache
def carried(case: str) -> tuple[Any, Any, Any]:
  """(torch's network as a function, ours, our variables by the rules)."""
  name, chosen, changes, build, rules = CASES[case]
  torch, module = peers.peer("torch"), find_module("model", name)
  ours, head = module.Model(**module.PRESETS[chosen] | changes), Head(CLASSES)
  video = jax.ShapeDtypeStruct((1, *CLIPS[0], 3), jnp.float32)
  features, backbone = jax.eval_shape(functools.partial(ours.init_with_output, train=False), jax.random.key(0), video)
  classifier = jax.eval_shape(functools.partial(head.init, train=False), jax.random.key(0), features, {})
  expected = {
    "params": {"backbone": backbone["params"], "head": classifier["params"]},
    "batch_stats": {"backbone": backbone["batch_stats"]},
  }
  with torch.no_grad():
    theirs, run = build()
    if isinstance(theirs, Named):
      tensors = theirs.parameters(torch.zeros(1, 3, *CLIPS[0]), run)
    else:
      tensors = theirs.eval().state_dict()
    randomise(tensors)
  published = {key: value.numpy() for key, value in tensors.items()}
  return run, ours, carry(published, rules[name], expected)


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_torch(case: str, clip: tuple[int, int, int]):
  """A plain clip, and an odd, oblong one."""
  run, ours, variables = carried(case)
  torch = peers.peer("torch")
  video = np.random.default_rng(1).standard_normal((1, *clip, 3)).astype(np.float32)
  with torch.no_grad():
    wanted = run(torch.from_numpy(np.moveaxis(video, -1, 1).copy())).numpy()
  params, stats = variables["params"], variables["batch_stats"]["backbone"]
  features = jax.jit(functools.partial(ours.apply, train=False))(
    {"params": params["backbone"], "batch_stats": stats}, video
  )
  found = Head(CLASSES).apply({"params": params["head"]}, features, {}, train=False)["logits"]
  assert np.abs(wanted).max() > 0.1  # there was something to compare
  assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
