"""Recurrences in torch: its fused layers on vectors; on maps, input convolutions of all frames at once, as ours."""

from typing import Any

Tensor = Any  # torch is imported when a function is called


def rnn(x: Tensor, input_kernel: Tensor, input_bias: Tensor, hidden_kernel: Tensor) -> Tensor:
  import torch

  return _fused(torch.rnn_tanh, x, input_kernel, input_bias, hidden_kernel)


def lstm(x: Tensor, input_kernel: Tensor, input_bias: Tensor, hidden_kernel: Tensor) -> Tensor:
  import torch

  return _fused(torch.lstm, x, input_kernel, input_bias, hidden_kernel)


def gru(x: Tensor, input_kernel: Tensor, input_bias: Tensor, hidden_kernel: Tensor, hidden_bias: Tensor) -> Tensor:
  import torch

  bias = torch.nn.functional.pad(hidden_bias, (2 * len(hidden_bias), 0))  # ours has one for the candidate alone
  return _fused(torch.gru, x, input_kernel, input_bias, hidden_kernel, bias)


def _fused(op: Any, x: Tensor, input_kernel: Tensor, input_bias: Tensor, hidden_kernel: Tensor, bias=None) -> Tensor:
  """What torch.nn.RNN, LSTM and GRU call, one layer, (B T C) -> (B T D)."""
  import torch

  zeros = x.new_zeros(1, x.shape[0], hidden_kernel.shape[1])
  state = (zeros, zeros) if op is torch.lstm else zeros
  hidden_bias = torch.zeros_like(input_bias) if bias is None else bias
  weights = [input_kernel, hidden_kernel, input_bias, hidden_bias]
  return op(x, state, weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)[0]


def conv_lstm(x: Tensor, input_kernel: Tensor, input_bias: Tensor, hidden_kernel: Tensor) -> Tensor:
  import torch

  hidden = memory = _zeros(x, hidden_kernel)
  outputs = []
  for gates in _all_frames(x, input_kernel, input_bias):
    i, f, g, o = (gates + _map(hidden, hidden_kernel)).chunk(4, 1)
    memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * memory.tanh()
    outputs.append(hidden)
  return torch.stack(outputs, 1)


def conv_gru(
  x: Tensor, input_kernel: Tensor, input_bias: Tensor, hidden_kernel: Tensor, candidate_kernel: Tensor
) -> Tensor:
  import torch

  hidden = _zeros(x, hidden_kernel)
  outputs = []
  for gates in _all_frames(x, input_kernel, input_bias):
    r, z, n = gates.chunk(3, 1)
    own_r, own_z = _map(hidden, hidden_kernel).chunk(2, 1)
    new = (n + _map((r + own_r).sigmoid() * hidden, candidate_kernel)).tanh()
    hidden = torch.lerp(hidden, new, (z + own_z).sigmoid())
    outputs.append(hidden)
  return torch.stack(outputs, 1)


def predrnn(x: Tensor, **params: Tensor) -> Tensor:
  import torch

  layers = sum(name.endswith("_last") for name in params)
  hidden = [_zeros(x, params["layer0_hidden"])] * layers
  memory, zigzag, outputs = list(hidden), hidden[0], []
  for first in _all_frames(x, params["layer0_input"], params["layer0_bias"]):
    for k in range(layers):
      own = {name: params[f"layer{k}_{name}"] for name in ("input", "bias", "hidden", "zigzag", "output", "last")}
      gates = _map(hidden[k - 1], own["input"], own["bias"]) if k else first
      i, f, g, zi, zf, zg, o = gates.chunk(7, 1)
      hi, hf, hg, ho = _map(hidden[k], own["hidden"]).chunk(4, 1)
      memory[k] = (f + hf + 1).sigmoid() * memory[k] + (i + hi).sigmoid() * (g + hg).tanh()
      mi, mf, mg = _map(zigzag, own["zigzag"]).chunk(3, 1)
      zigzag = (zf + mf + 1).sigmoid() * zigzag + (zi + mi).sigmoid() * (zg + mg).tanh()
      both = torch.cat([memory[k], zigzag], 1)
      hidden[k] = (o + ho + _map(both, own["output"])).sigmoid() * _map(both, own["last"]).tanh()
    outputs.append(hidden[-1])
  return torch.stack(outputs, 1)


def _map(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
  import torch

  return torch.nn.functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)


def _all_frames(x: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
  """The gates that the input contributes, frame by frame; x is (B T C h w)."""
  return _map(x.flatten(0, 1), kernel, bias).unflatten(0, x.shape[:2]).unbind(1)


def _zeros(x: Tensor, hidden_kernel: Tensor) -> Tensor:
  return x.new_zeros(x.shape[0], hidden_kernel.shape[1], *x.shape[3:])
