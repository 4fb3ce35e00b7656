"""The checksum of TFRecord files, in numpy, since no package that is installed brings one."""

import functools
import struct

import numpy as np
from jaxtyping import UInt8, UInt32

_WORD = struct.Struct("<I")
_LANE, _PIECE = 256, 1 << 20  # bytes that one lane reads, and that all lanes read together


def crc32c(data: bytes) -> int:
  """CRC-32C (Castagnoli, RFC 3720 B.4) of the bytes; about 100 MB/s.

  A CRC is linear, so lanes of the message are reduced side by side and joined in pairs.
  """
  state = 0xFFFFFFFF
  for start in range(0, len(data), _PIECE):
    state = _advance(state, np.frombuffer(data[start : start + _PIECE], np.uint8))
  return state ^ 0xFFFFFFFF


def _advance(state: int, piece: UInt8[np.ndarray, " n"]) -> int:
  """State after the bytes of a piece."""
  table = _byte_table()
  if piece.size < _LANE:
    for byte in piece.tolist():
      state = int(table[(state ^ byte) & 255]) ^ (state >> 8)
    return state
  lanes = np.zeros((-(-piece.size // _LANE), _LANE), np.uint8)
  message = lanes.reshape(-1)[-piece.size :]  # zeros in front of a message do not change a state of 0
  message[:] = piece
  message[:4] ^= np.frombuffer(_WORD.pack(state), np.uint8)  # which stands for starting with `state`
  states, pairs = np.zeros(len(lanes), np.uint32), _pair_table()
  for column in np.ascontiguousarray(lanes.view("<u2").T):
    states = pairs.take((states ^ column) & 0xFFFF) ^ (states >> 16)
  span = _LANE
  while states.size > 1:
    states = np.concatenate([np.zeros(states.size % 2, np.uint32), states])
    states = _apply(_zeros(span), states[0::2]) ^ states[1::2]
    span *= 2
  return int(states[0])


@functools.cache
def _byte_table() -> UInt32[np.ndarray, "256"]:
  """What each lowest byte of the state adds to the rest of it when the byte is shifted out."""
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table[:] = (table >> 1) ^ np.uint32(0x82F63B78) * (table & 1)
  return table


@functools.cache
def _pair_table() -> UInt32[np.ndarray, "65536"]:
  """As `_byte_table`, for two bytes at once."""
  table, pairs = _byte_table(), np.arange(1 << 16, dtype=np.uint32)
  once = table[pairs & 255] ^ (pairs >> 8)
  return table[once & 255] ^ (once >> 8)


@functools.cache
def _zeros(count: int) -> UInt32[np.ndarray, "32"]:
  """What each bit of the state becomes when `count` zero bytes follow; a power of two."""
  if count > 1:
    half = _zeros(count // 2)
    return _apply(half, half)
  bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
  return _byte_table()[bits & 255] ^ (bits >> 8)


def _apply(columns: UInt32[np.ndarray, "32"], states: UInt32[np.ndarray, " n"]) -> UInt32[np.ndarray, " n"]:
  """Matrix product over GF(2)."""
  result = np.zeros_like(states)
  for bit, column in enumerate(columns):
    result ^= column * ((states >> np.uint32(bit)) & np.uint32(1))
  return result
