"""DATA: bytes to batch.

Prepared once:
  selection.py, listing.py, clip_table.py    which clips there are: class folders, a CSV
    layouts/, division.py                    official lists of known datasets; splits that keep source videos together
  builders/                                  one dataset each, as TFDS builders; prepare.py runs them
    tfds_directory.py                        directories that TFDS prepared elsewhere
  transcode.py, stores.py                    a video becomes a stored clip: intra, jpeg, source or raw
Read in training:
  source.py, order.py                        random access to stored clips; which one comes next
  clips.py, view.py                          which frames of it, and which pixels of those
  decode.py, packets.py, picture.py          encoded bytes to RGB, only what is wanted
  augment.py, policies.py, operations.py     what changes the pixels; augment_device.py does so inside of the step
  loader.py                                  batches: shuffled, decoded in threads, sharded per host, resumable
"""
