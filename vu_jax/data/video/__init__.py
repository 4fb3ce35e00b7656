"""VIDEO: encoded bytes to the pixels of a clip, and back; `stores` is the door."""
