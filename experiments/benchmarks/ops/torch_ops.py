"""The measured ops in torch, as its users run them at their best: its layout, its fastest memory format, its fused ops.

torch is imported when the first contender is made.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from einops import rearrange

from experiments.benchmarks.ops import torch_recurrent
from experiments.benchmarks.ops.case import OpCase
from experiments.benchmarks.timing import AbsentError, Contender, Pass, timed_call
from vu_jax.layers.convolution import window


@dataclass(frozen=True)
class TorchOp:
  """An op.

  Fields:
    form: takes tensors in torch's layout and the case's arguments as keywords.
    layouts: name of an input, or "output" -> einops pattern from our layout to torch's; see `layout` for the others.
    images: whether the channels-last memory format may be faster.
  """

  form: Callable[..., Any]
  layouts: dict[str, str]
  images: bool = False


def _conv(x, kernel, strides, padding, dilation, groups):
  import torch.nn.functional as F

  run = F.conv2d if x.ndim == 4 else F.conv3d
  pads = window.resolve(x.shape[2:], kernel.shape[2:], strides, padding, dilation)
  if all(low == high for low, high in pads):
    return run(x, kernel, None, strides, tuple(low for low, _ in pads), dilation, groups)
  x = F.pad(x, [n for pair in reversed(pads) for n in pair])
  return run(x, kernel, None, strides, 0, dilation, groups)


def _conv_transpose(x, kernel, strides, padding):
  import torch.nn.functional as F

  return (F.conv_transpose2d if x.ndim == 4 else F.conv_transpose3d)(x, kernel, None, strides, padding)


def _max_pool(x, window, strides, padding):
  import torch.nn.functional as F

  return F.max_pool3d(x, window, strides, padding)


def _avg_pool(x, window, strides, padding):
  import torch.nn.functional as F

  return F.avg_pool3d(x, window, strides, padding)


def _patch_embed(x, kernel, bias):
  import torch.nn.functional as F

  return F.conv3d(x, kernel, bias, kernel.shape[2:])


def _linear(x, kernel, bias):
  import torch.nn.functional as F

  return F.linear(x, kernel, bias)


def _attend(q, k, v):
  import torch.nn.functional as F

  return F.scaled_dot_product_attention(q, k, v)


def _block(x, heads, **p):
  import torch.nn.functional as F

  size = x.shape[-1:]
  qkv = F.linear(F.layer_norm(x, size, p["norm1_scale"], p["norm1_bias"], 1e-6), p["qkv_kernel"], p["qkv_bias"])
  q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
  seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
  x = x + F.linear(seen, p["out_kernel"], p["out_bias"])
  hidden = F.linear(F.layer_norm(x, size, p["norm2_scale"], p["norm2_bias"], 1e-6), p["up_kernel"], p["up_bias"])
  return x + F.linear(F.gelu(hidden), p["down_kernel"], p["down_bias"])


IMAGES = {"x": "b h w c -> b c h w", "output": "b h w d -> b d h w"}
VIDEOS = {
  "x": "b t h w c -> b c t h w",
  "kernel": "kt kh kw c d -> d c kt kh kw",
  "output": "b t h w d -> b d t h w",
}
VECTORS = {"input_kernel": "c g -> g c", "hidden_kernel": "c g -> g c"}
FRAMES = {"x": "b t h w c -> b t c h w", "output": "b t h w d -> b t d h w"}
HEADS = dict.fromkeys(("q", "k", "v", "output"), "b n a d -> b a n d")
MAPS = {f"{name}_kernel": "c d -> d c" for name in ("qkv", "out", "up", "down")}
OPS = {
  "conv2d": TorchOp(_conv, IMAGES, images=True),
  "conv3d": TorchOp(_conv, VIDEOS, images=True),
  "conv_transpose2d": TorchOp(_conv_transpose, IMAGES | {"kernel": "kh kw c d -> c d kh kw"}, images=True),
  "conv_transpose3d": TorchOp(_conv_transpose, VIDEOS | {"kernel": "kt kh kw c d -> c d kt kh kw"}, images=True),
  "max_pool": TorchOp(_max_pool, VIDEOS, images=True),
  "avg_pool": TorchOp(_avg_pool, VIDEOS, images=True),
  "patch_embed": TorchOp(_patch_embed, VIDEOS, images=True),
  "attend": TorchOp(_attend, HEADS),
  "block": TorchOp(_block, MAPS),
  "linear": TorchOp(_linear, {"kernel": "c d -> d c"}),
  "rnn": TorchOp(torch_recurrent.rnn, VECTORS),
  "lstm": TorchOp(torch_recurrent.lstm, VECTORS),
  "gru": TorchOp(torch_recurrent.gru, VECTORS),
  "conv_lstm": TorchOp(torch_recurrent.conv_lstm, FRAMES, images=True),
  "conv_gru": TorchOp(torch_recurrent.conv_gru, FRAMES, images=True),
  "predrnn": TorchOp(torch_recurrent.predrnn, FRAMES, images=True),
}


def contender(
  case: OpCase, pass_: Pass, dtype: str, inputs: dict[str, np.ndarray], cotangent: np.ndarray, compile_it: bool
) -> Contender:
  """The faster of torch's memory formats, after both were tried.

  Raises:
    AbsentError: torch is not installed, is here without the accelerator that JAX uses, or has no such op.
  """
  if not installed():
    raise AbsentError("torch is not installed")
  if case.op not in OPS:
    raise AbsentError("torch has no such op")
  device = torch_device()
  formats = ("contiguous", "channels_last") if OPS[case.op].images else ("contiguous",)
  found = [in_format(name, device, case, pass_, dtype, inputs, cotangent, compile_it) for name in formats]
  return min(found, key=lambda c: min(timed_call(c, 1)[0] for _ in range(3)))


def installed() -> bool:
  """Whether torch can be imported."""
  return importlib.util.find_spec("torch") is not None


def torch_device() -> str:
  """Where torch runs: on the kind of device that JAX uses; raises AbsentError where it cannot."""
  import jax
  import torch

  if jax.default_backend() == "cpu":
    return "cpu"
  if not torch.cuda.is_available():
    raise AbsentError(f"torch is installed without {jax.default_backend()}")
  torch.backends.cudnn.benchmark = True
  return "cuda"


def layout(op: TorchOp, name: str, rank: int) -> str:
  """The pattern for an input: the op's own, else that of kernels of images for any parameter with four axes."""
  return op.layouts.get(name, "kh kw c d -> d c kh kw" if rank == 4 else "")


def in_format(
  memory_format: str,
  device: str,
  case: OpCase,
  pass_: Pass,
  dtype: str,
  inputs: dict[str, np.ndarray],
  cotangent: np.ndarray,
  compile_it: bool,
) -> Contender:
  """torch's form, its arrays in one memory format, called once."""
  import torch

  op = OPS[case.op]

  def place(name: str, value: np.ndarray):
    pattern = layout(op, name, value.ndim)
    array = rearrange(value, pattern) if pattern else value
    if memory_format == "channels_last" and name in ("x", "output"):  # our memory, seen in torch's order of axes
      return torch.from_numpy(array).to(device, getattr(torch, dtype))
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device, getattr(torch, dtype))
    named = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.ndim)
    return tensor.to(memory_format=named) if memory_format == "channels_last" and named else tensor

  def read_one(name: str, tensor) -> np.ndarray:
    array = tensor.detach().float().cpu().numpy()
    left, _, right = layout(op, name, array.ndim).partition(" -> ")
    return rearrange(array, f"{right} -> {left}") if left else array

  def read(result: Any) -> list[np.ndarray]:
    names = ["output", *sorted(case.inputs)]  # the order of jax.tree.leaves
    return [read_one(name, tensor) for name, tensor in zip(names, result, strict=False)]

  tensors = {name: place(name, value).requires_grad_(pass_ == "gradient") for name, value in inputs.items()}
  pull = place("output", cotangent)
  form = partial(op.form, **case.arguments)
  begun = time.perf_counter()
  run = torch.compile(form) if compile_it else form

  def forward():
    with torch.inference_mode():
      return (run(**tensors),)

  def gradient():
    output = run(**tensors)
    return (output, *torch.autograd.grad(output, [tensors[name] for name in sorted(tensors)], pull))

  start = forward if pass_ == "forward" else gradient
  start()
  wait = (lambda result: torch.cuda.synchronize()) if device == "cuda" else (lambda result: None)
  compile_s = time.perf_counter() - begun if compile_it else 0.0
  return Contender(start, wait, read, memory_format, compile_s)
