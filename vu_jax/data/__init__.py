"""DATA: bytes to batch.

Prepared once:
  listing/               which clips there are: class folders, a CSV, official lists; splits that keep sources together
  builders/              one dataset each, as TFDS builders
  tfds_directory.py      directories that TFDS prepared elsewhere
  prepare.py             runs a builder, and says what is in the result
  preparation.py         its work: parts.py, part_files.py (many parts, one dataset), claims.py, changes.py (of sources)
Both ways:
  video/                 encoded bytes to pixels and back: decoding, views, the stored forms
  audio/                 the sound of the same span of time: from files, stored, cut to a clip's frames
Read in training:
  source.py, order.py    random access to stored clips; which one comes next
  clips.py, protocol.py  which frames of it; which views evaluation takes
  augmentation/          what changes the pixels
  loader.py              batches: shuffled, decoded in threads, sharded per host, resumable
  quarantine.py          what could not be read
"""
