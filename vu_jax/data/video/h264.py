"""What H.264 packets say of themselves, without decoding them.

Source: ITU-T H.264, section 7.4.1 (nal_ref_idc); ISO/IEC 14496-15, section 5.3.3 (avcC).
"""

_SLICES = range(1, 6)  # types of NAL units that hold parts of a picture


def length_size(extradata: bytes | None) -> int:
  """Bytes of the length in front of each NAL unit, where `extradata` is an avcC record; 0 where it is not."""
  return (extradata[4] & 3) + 1 if extradata and len(extradata) > 6 and extradata[0] == 1 else 0


def is_disposable(packet: memoryview, size_bytes: int) -> bool:
  """Whether no other picture refers to that of the packet; False where the packet does not say so plainly."""
  at, end, found = 0, len(packet), False
  while at + size_bytes < end:
    size = int.from_bytes(packet[at : at + size_bytes], "big")
    head = packet[at + size_bytes]
    if head & 31 in _SLICES:
      if head >> 5 & 3:
        return False
      found = True
    at += size_bytes + size
  return found and at == end
