"""Recurrences over frames, and the parts of video transformers."""

import math

from experiments.benchmarks.ops.case import OpCase, Shape


def recurrent_case(
  name: str, op: str, x: Shape, features: int, gates: int, kernel: Shape = (), **more: Shape
) -> OpCase:
  """A recurrence whose input and state maps have `gates` gates; `more` are its other parameters."""
  inputs = {
    "x": x,
    "input_kernel": (*kernel, x[-1], gates * features),
    "input_bias": (gates * features,),
    **more,
  }
  maps = sum(math.prod(shape) for name, shape in inputs.items() if name.endswith("kernel"))
  return OpCase(name, "recurrence", op, inputs, {}, 2 * math.prod(x[:-1]) * maps)


def predrnn_case(name: str, x: Shape, features: int, layers: int, kernel: Shape) -> OpCase:
  """Stacked spatio-temporal LSTMs: maps of the input (7 gates), the hidden state (4) and the second memory (3)."""
  inputs = {"x": x}
  for k in range(layers):
    gates = {"input": 7, "hidden": 4, "zigzag": 3, "output": 1}
    channels = {"input": features if k else x[-1], "output": 2 * features}
    for part, count in gates.items():
      inputs[f"layer{k}_{part}"] = (*kernel, channels.get(part, features), count * features)
    inputs[f"layer{k}_last"] = (1, 1, 2 * features, features)
    inputs[f"layer{k}_bias"] = (7 * features,)
  maps = sum(math.prod(shape) for shape in inputs.values() if len(shape) == 4)
  return OpCase(name, "recurrence", "predrnn", inputs, {}, 2 * math.prod(x[:-1]) * maps)


RECURRENT = (
  recurrent_case("convlstm 5x5", "conv_lstm", (4, 10, 16, 16, 64), 64, 4, (5, 5), hidden_kernel=(5, 5, 64, 256)),
  recurrent_case("convlstm 3x3", "conv_lstm", (8, 8, 14, 14, 32), 32, 4, (3, 3), hidden_kernel=(3, 3, 32, 128)),
  recurrent_case(
    "convgru 3x3",
    "conv_gru",
    (4, 8, 16, 16, 32),
    32,
    3,
    (3, 3),
    hidden_kernel=(3, 3, 32, 64),
    candidate_kernel=(3, 3, 32, 32),
  ),
  recurrent_case("lstm 512", "lstm", (16, 32, 512), 512, 4, hidden_kernel=(512, 2048)),
  recurrent_case("lstm on resnet features", "lstm", (8, 16, 2048), 256, 4, hidden_kernel=(256, 1024)),
  recurrent_case("gru 512", "gru", (16, 32, 512), 512, 3, hidden_kernel=(512, 1536), hidden_bias=(512,)),
  recurrent_case("rnn 512", "rnn", (16, 32, 512), 512, 1, hidden_kernel=(512, 512)),
  predrnn_case("predrnn 2 layers 3x3", (4, 8, 16, 16, 16), 32, 2, (3, 3)),
)


def embed_case(name: str, x: Shape, patch: Shape, features: int) -> OpCase:
  """Patches that do not overlap, projected."""
  inputs = {"x": x, "kernel": (*patch, x[-1], features), "bias": (features,)}
  return OpCase(name, "transformer", "patch_embed", inputs, {}, 2 * math.prod(x) * features)


def linear_case(name: str, x: Shape, features: int) -> OpCase:
  """A matrix product and a bias: most of a transformer's work."""
  inputs = {"x": x, "kernel": (x[-1], features), "bias": (features,)}
  return OpCase(name, "transformer", "linear", inputs, {}, 2 * math.prod(x) * features)


def attend_case(name: str, tokens: Shape) -> OpCase:
  """Attention of (B N A d) on itself: two products of every query with every key."""
  inputs = dict.fromkeys(("q", "k", "v"), tokens)
  return OpCase(name, "transformer", "attend", inputs, {}, 2 * 2 * math.prod(tokens) * tokens[1])


def block_case(name: str, tokens: Shape, heads: int) -> OpCase:
  """A pre-norm block with an MLP of four times the width."""
  batch, count, width = tokens
  maps = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
  inputs: dict[str, Shape] = {"x": tokens}
  for part, shape in maps.items():
    inputs |= {f"{part}_kernel": shape, f"{part}_bias": shape[1:]}
  for norm in ("norm1", "norm2"):
    inputs |= {f"{norm}_scale": (width,), f"{norm}_bias": (width,)}
  work = sum(math.prod(shape) for shape in maps.values()) + 2 * count * width
  return OpCase(name, "transformer", "block", inputs, {"heads": heads}, 2 * batch * count * work)


TRANSFORMER = (
  block_case("block 1568 tokens x 768", (1, 1568, 768), 12),
  block_case("block 8 frames of 197 tokens x 768", (8, 197, 768), 12),
  linear_case("linear 768 to 3072, 1568 tokens", (1, 1568, 768), 3072),
  linear_case("linear 3072 to 768, 1568 tokens", (1, 1568, 3072), 768),
  attend_case("joint attention 1568 tokens", (1, 1568, 12, 64)),
  attend_case("divided attention, space", (8, 197, 12, 64)),
  attend_case("divided attention, time", (196, 8, 12, 64)),
  embed_case("videomae patches 2x16x16", (1, 16, 224, 224, 3), (2, 16, 16), 768),
  embed_case("timesformer patches 1x16x16", (1, 8, 224, 224, 3), (1, 16, 16), 768),
)
