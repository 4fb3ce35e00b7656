"""The peers' own networks, built without weights of theirs; torch is imported when the first one is made."""

import importlib
import importlib.util
import time
from functools import partial
from typing import Any

import numpy as np

from experiments.benchmarks.models.cases import ModelCase
from experiments.benchmarks.ops.torch_ops import torch_device
from experiments.benchmarks.timing import AbsentError, Contender, Pass, timed_call
from vu_jax.config import find_module

CLASSES = 400


def make(case: ModelCase) -> Any:
  """The peer's module with random weights, without dropout.

  Raises:
    AbsentError: nobody has the network, or who has it is not installed.
  """
  if case.package is None:
    raise AbsentError("no peer")
  for name in ("torch", case.package):
    if importlib.util.find_spec(name) is None:
      raise AbsentError(f"{name} is not installed")
  import torch

  declare_operators()
  torch.manual_seed(0)
  makers = {"torchvision": _torchvision, "transformers": _transformers, "pytorchvideo": _pytorchvideo}
  module = makers[case.package](case)
  for part in module.modules():
    if isinstance(part, torch.nn.Dropout | torch.nn.Dropout3d):
      part.p = 0.0
  return module


def contender(case: ModelCase, pass_: Pass, dtype: str, compile_it: bool, video: np.ndarray) -> Contender:
  """The faster of torch's memory formats, after both were tried.

  Raises:
    AbsentError: as `make`.
  """
  formats = ("contiguous",) if case.package == "transformers" else ("contiguous", "channels_last")
  found = [_in_format(name, case, pass_, dtype, compile_it, video) for name in formats]
  return min(found, key=lambda c: min(timed_call(c, 1)[0] for _ in range(2))) if len(found) > 1 else found[0]


def _in_format(
  memory_format: str, case: ModelCase, pass_: Pass, dtype: str, compile_it: bool, video: np.ndarray
) -> Contender:
  """One memory format, called once. Parameters are float32; bfloat16 is torch's automatic mixed precision."""
  module = make(case)
  import torch

  device = torch_device()
  named = {4: torch.channels_last, 5: torch.channels_last_3d}
  module = module.to(device).train(pass_ == "train")
  if memory_format == "channels_last":
    for p in module.parameters():
      if p.ndim in named:
        p.data = p.data.to(memory_format=named[p.ndim])
  inputs = _placed(arrange(case, torch.from_numpy(video).to(device)), named if memory_format != "contiguous" else {})
  labels = torch.zeros(len(video), dtype=torch.long, device=device)
  optimizer = torch.optim.SGD(module.parameters(), lr=1e-12)
  mixed = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
  run = torch.compile(module) if compile_it else module

  def forward() -> Any:
    with torch.inference_mode(), mixed:
      return (logits(case, run, inputs, len(video)),)

  def step() -> Any:
    optimizer.zero_grad(set_to_none=True)
    with mixed:
      out = logits(case, run, inputs, len(video))
      nats = torch.nn.functional.cross_entropy(out, labels)
    nats.backward()
    optimizer.step()
    norm = torch.sqrt(sum((p.grad.float() ** 2).sum() for p in module.parameters() if p.grad is not None))
    return nats, out, norm

  start = forward if pass_ == "forward" else step
  begun = time.perf_counter()
  start()
  wait = (lambda result: torch.cuda.synchronize()) if device == "cuda" else (lambda result: None)
  read = partial(map, lambda tensor: tensor.detach().float().cpu().numpy())
  compile_s = time.perf_counter() - begun if compile_it else 0.0
  return Contender(start, wait, lambda result: list(read(result)), memory_format, compile_s)


def _placed(inputs: Any, formats: Any) -> Any:
  """Inputs in a memory format; a list is a network's pathways."""
  if isinstance(inputs, list):
    return [_placed(x, formats) for x in inputs]
  return inputs.contiguous(memory_format=formats[inputs.ndim]) if inputs.ndim in formats else inputs.contiguous()


def arrange(case: ModelCase, video: Any) -> Any:
  """(B T H W C) as the peer takes it."""
  if case.package == "transformers":
    return video.permute(0, 1, 4, 2, 3)
  if case.model in ("resnet", "inception"):
    return video.flatten(0, 1).permute(0, 3, 1, 2)
  planes = video.permute(0, 4, 1, 2, 3)
  return [planes[:, :, :: _our_slowfast(case).alpha], planes] if case.model == "slowfast" else planes


def logits(case: ModelCase, module: Any, inputs: Any, clips: int) -> Any:
  """(B Y) of a batch."""
  if case.package == "transformers":
    return module(pixel_values=inputs).logits
  out = module([*inputs] if isinstance(inputs, list) else inputs)  # SlowFast's puts its results into the list
  return out.unflatten(0, (clips, -1)).mean(1) if case.model in ("resnet", "inception") else out


def parameters(module: Any) -> dict[str, np.ndarray]:
  """All parameters and stored statistics by name."""
  return {k: v.detach().float().cpu().numpy() for k, v in module.state_dict().items()}


def _torchvision(case: ModelCase) -> Any:
  import torchvision

  if case.model == "resnet":
    return getattr(torchvision.models, case.peer)(weights=None, num_classes=CLASSES)
  if case.model == "inception":
    options = {"aux_logits": False, "transform_input": False, "init_weights": False}
    return torchvision.models.googlenet(weights=None, num_classes=CLASSES, dropout=0.0, **options)
  build = getattr(torchvision.models.video, case.peer)
  if case.model == "mvit":
    return build(weights=None, num_classes=CLASSES, dropout=0.0, stochastic_depth_prob=0.0)
  return build(weights=None, num_classes=CLASSES)


def _transformers(case: ModelCase) -> Any:
  import transformers

  frames, side, _ = case.clip
  common: dict[str, Any] = {"num_labels": CLASSES, "image_size": side, "num_frames": frames}
  if case.model == "vivit":
    return transformers.VivitForVideoClassification(transformers.VivitConfig(**common, tubelet_size=[2, 16, 16]))
  if case.model == "timesformer":
    return transformers.TimesformerForVideoClassification(transformers.TimesformerConfig(**common))
  config = transformers.VideoMAEConfig(**common, use_mean_pooling=True, layer_norm_eps=1e-6)
  return transformers.VideoMAEForVideoClassification(config)


def _pytorchvideo(case: ModelCase) -> Any:
  options: dict[str, Any] = {}
  if case.model == "slowfast":
    like = _our_slowfast(case)
    options["slowfast_fusion_conv_kernel_size"] = (like.lateral_time, 1, 1)
    options["slowfast_fusion_conv_stride"] = (like.alpha, 1, 1)
  elif case.model == "csn":
    options["model_depth"] = 101
  elif case.model == "x3d":
    options["depth_factor"] = 5.0 if case.peer == "x3d_l" else 2.2
  return pytorchvideo_net(case.model, CLASSES, **options)


def pytorchvideo_net(model: str, classes: int, **options: Any) -> Any:
  """PyTorchVideo's network like ours of that name, for clips of any size; `options` are those of its builder there."""
  import torch

  name = {"resnet3d": "resnet"}.get(model, model)
  build = getattr(importlib.import_module(f"pytorchvideo.models.{name}"), f"create_{name}")
  if model == "resnet3d":  # Slow
    options["stem_conv_kernel_size"] = (1, 7, 7)
    options["stage_conv_a_kernel_size"] = ((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1))
  if model == "csn":
    options["stem_pool"] = torch.nn.MaxPool3d
  if model == "x3d":
    options["head_activation"] = None
  net = build(model_num_class=classes, dropout_rate=0.0, **options)
  for parent in [*net.modules()]:
    for child, module in parent.named_children():
      if isinstance(module, torch.nn.AvgPool3d):  # of the head, which knows one size
        setattr(parent, child, torch.nn.AdaptiveAvgPool3d(1))
      if model == "csn" and isinstance(module, torch.nn.BatchNorm3d):
        module.eps = 1e-3
  if model == "x3d":
    net.blocks[1].res_blocks[0].branch1_norm = torch.nn.BatchNorm3d(24)  # PySlowFast's has it, and ours
  return net


def _our_slowfast(case: ModelCase) -> Any:
  """Our network, whose fields say how its pathways differ."""
  module = find_module("model", case.model)
  return module.Model(**module.PRESETS[case.preset])


def declare_operators() -> None:
  """torchvision without its compiled part imports once the operators that it registers fakes for are declared."""
  import torch
  from torch import library

  for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
      library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
