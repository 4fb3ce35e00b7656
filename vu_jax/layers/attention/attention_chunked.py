"""Attention over a few queries at a time, forwards and backwards, for `attention.attend`, which checks the arguments.

Source: Dao et al. 2022, "FlashAttention", algorithm 4.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array

from vu_jax.layers.attention.attention_lowerings import (
  Inputs,
  Options,
  dropout_factors,
  exp_sum,
  finite,
  masked_scores,
  matmul,
  nonzero,
)

# Scores that are worked on at a time: enough for fast matmuls, few enough to stay in the cache (4 bytes each).
CHUNK_SCORES = 2**20
# Causal chunks look at the keys up to the end of their span only: 8 spans do 9/16 of the work, 1/2 is the least.
CAUSAL_SPANS = 8


def chunked(inputs: Inputs, options: Options) -> Array:
  """The scores of some heads and some queries at a time, forwards and backwards."""
  batch, rows, heads, _ = inputs.q.shape
  plan = _plan(rows, inputs.k.shape[1], heads, options)
  padding = (0, plan.rows * plan.chunks - rows)

  def pad(x: Array) -> Array:
    return jnp.pad(x, [(0, 0), (0, 0), padding if x.shape[2] > 1 else (0, 0), (0, 0)])

  q = rearrange(inputs.q * options.scale, "b n (g a) d -> (b g) a n d", a=plan.heads)
  k, v = (rearrange(x, "b m (g a) d -> (b g) a d m", a=plan.heads) for x in inputs[1:3])
  bias, mask = (None if x is None else pad(x) for x in (inputs.bias, inputs.mask))
  padded = Inputs(pad(q), k, v, bias, mask, inputs.key)
  out = _attend(plan, padded)
  return rearrange(out[:, :, :rows], "(b g) a n d -> b n (g a) d", b=batch)


class _Plan(NamedTuple):
  """`groups` per clip of `heads` heads each, and `chunks` of `rows` queries each, in `spans` that share their keys."""

  groups: int
  heads: int
  chunks: int
  rows: int
  spans: int
  options: Options

  def split(self, keys: int) -> list[tuple[np.ndarray, int]]:
    """(first rows of the chunks, number of keys to look at) of each span."""
    starts = np.arange(self.chunks, dtype=np.int32).reshape(self.spans, -1) * self.rows
    block = self.options.block
    seen = [min(keys, math.ceil((s[-1] + self.rows) / block) * block) if block else keys for s in starts]
    return list(zip(starts, seen, strict=True))


def _plan(rows: int, keys: int, heads: int, options: Options) -> _Plan:
  together = max(n for n in range(1, heads + 1) if n == 1 or (heads % n == 0 and n * rows * keys <= CHUNK_SCORES))
  chunks = math.ceil(rows * keys / CHUNK_SCORES)
  spans = min(chunks, CAUSAL_SPANS) if options.block else 1
  chunks = math.ceil(chunks / spans) * spans
  return _Plan(heads // together, together, chunks, math.ceil(rows / chunks), spans, options)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(plan: _Plan, inputs: Inputs) -> Array:
  return _forward(plan, inputs)[0]


def _forward(plan: _Plan, inputs: Inputs):
  """The result (G a N d), and what the backward pass needs; G are the groups of a heads of all clips.

  Queries are (G a N d), keys and values (G a d M): so no product below transposes a matrix of scores, which gained 2 %
  to 7 % on the CPU over (G a M d); with queries as (G a d N), too, it lost 1 % to 5 %.
  """

  def group(index):
    q, k, v = (x[index] for x in inputs[:3])

    def chunk(keys, start):
      s = _chunk_scores(plan, inputs, index, start, q, k[..., :keys])
      top = finite(s.max(-1))
      p, total = exp_sum(s, top)
      if plan.options.dropout:
        p = p * _chunk_kept(plan, inputs, index, start, p.shape)
      out = matmul("adm,anm->adn", v[..., :keys], p.astype(v.dtype)) / nonzero(total)[:, None]
      # Where nothing is seen, infinity makes the weights zero in the backward pass.
      return out.astype(q.dtype), jnp.where(total == 0, jnp.inf, top + jnp.log(nonzero(total)))

    parts = [jax.lax.map(partial(chunk, keys), starts) for starts, keys in plan.split(k.shape[2])]
    out, logsum = (jnp.concatenate(p) for p in zip(*parts, strict=True))
    return rearrange(out, "c a d n -> a (c n) d"), rearrange(logsum, "c a n -> a (c n)")

  out, logsum = jax.lax.map(group, jnp.arange(inputs.q.shape[0]))
  return out, (inputs, out, logsum)


def _backward(plan: _Plan, saved, dout: Array):
  """Dao et al. 2022, algorithm 4, on whole rows: P again from the log-sum-exp, then dV, dP, dS, dQ and dK."""
  inputs, outs, logsums = saved

  def group(dbias, index):
    q, k, v, out, logsum, do = (x[index] for x in (*inputs[:3], outs, logsums, dout))
    delta = matmul("and,and->an", do, out)

    def chunk(keys, carry, start):
      dk, dv, dbias = carry
      q_rows, do_rows, logsum_rows, delta_rows = (_rows(plan, x, start) for x in (q, do, logsum, delta))
      p = jnp.exp(_chunk_scores(plan, inputs, index, start, q, k[..., :keys]) - logsum_rows[..., None])
      dp = matmul("and,adm->anm", do_rows, v[..., :keys])
      dropped = p
      if plan.options.dropout:
        kept = _chunk_kept(plan, inputs, index, start, p.shape)
        dp, dropped = dp * kept, p * kept
      ds = p * (dp - delta_rows[..., None])
      if dbias is not None:
        dbias = _add_part(plan, dbias, index, start, ds)
      ds = ds.astype(q.dtype)
      q_turned, do_turned = (rearrange(x, "a n d -> a d n") for x in (q_rows, do_rows))
      dv = dv.at[..., :keys].add(matmul("adn,anm->adm", do_turned, dropped.astype(v.dtype)))
      dk = dk.at[..., :keys].add(matmul("adn,anm->adm", q_turned, ds))
      return (dk, dv, dbias), matmul("adm,anm->adn", k[..., :keys], ds).astype(q.dtype)

    zeros = jnp.zeros(k.shape, jnp.float32)
    carry, parts = (zeros, zeros, dbias), []
    for starts, keys in plan.split(k.shape[2]):
      carry, dq = jax.lax.scan(partial(chunk, keys), carry, starts)
      parts.append(dq)
    dk, dv = (x.astype(k.dtype) for x in carry[:2])
    return carry[2], (rearrange(jnp.concatenate(parts), "c a d n -> a (c n) d"), dk, dv)

  bias = inputs.bias
  none = None if bias is None else jnp.zeros(bias.shape, jnp.float32)
  dbias, (dq, dk, dv) = jax.lax.scan(group, none, jnp.arange(inputs.q.shape[0]))
  return (Inputs(dq, dk, dv, None if dbias is None else dbias.astype(bias.dtype), None, None),)


_attend.defvjp(_forward, _backward)


def _rows(plan: _Plan, x: Array, start: Array) -> Array:
  """The chunk's queries of (a N ...)."""
  return jax.lax.dynamic_slice_in_dim(x, start, plan.rows, axis=1)


def _chunk_scores(plan: _Plan, inputs: Inputs, index: Array, start: Array, q: Array, k: Array) -> Array:
  keys = k.shape[2]
  bias, mask = (None if x is None else _part(plan, x, index, start, keys) for x in (inputs.bias, inputs.mask))
  return masked_scores(_rows(plan, q, start), k, bias, mask, start, plan.options.block)


def _chunk_kept(plan: _Plan, inputs: Inputs, index: Array, start: Array, shape: tuple[int, ...]) -> Array:
  assert inputs.key is not None, "attend asks for it"
  key = jax.random.fold_in(jax.random.fold_in(inputs.key, index), start)
  return dropout_factors(key, shape, plan.options.dropout)


def _corner(plan: _Plan, x: Array, index: Array, start: Array) -> tuple[tuple, tuple[int, int, int]]:
  """Where the chunk's part of a bias or mask (1 or B, 1 or A, 1 or N, M) begins, and its size but for the keys."""
  clips, heads, rows, _ = x.shape
  begin = (index // plan.groups * (clips > 1), index % plan.groups * plan.heads * (heads > 1), start * (rows > 1), 0)
  return begin, (1, plan.heads if heads > 1 else 1, plan.rows if rows > 1 else 1)


def _part(plan: _Plan, x: Array, index: Array, start: Array, keys: int) -> Array:
  begin, size = _corner(plan, x, index, start)
  return jax.lax.dynamic_slice(x, begin, (*size, keys))[0]


def _add_part(plan: _Plan, total: Array, index: Array, start: Array, part: Array) -> Array:
  """Adds the gradient of the chunk's scores to that of the bias, summed where the bias was broadcast."""
  begin, size = _corner(plan, total, index, start)
  axes = tuple(i for i in (0, 1) if size[i + 1] == 1)
  part = part.sum(axes, keepdims=True)[None]
  return jax.lax.dynamic_update_slice(total, jax.lax.dynamic_slice(total, begin, part.shape) + part, begin)
