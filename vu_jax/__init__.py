"""Video understanding research in JAX and Flax.

The way of the data is the way through the package:

  config.py, build.py   CONFIG      an experiment file becomes typed parts, strictly
  search.py             SEARCH      which values of a config's keys a sweep tries
  backend.py            BACKEND     how XLA is set up before the first computation
  data/                 DATA        bytes to batch: layouts, builders, stores, order, clips, view, augment, loader
  layers/               LAYERS      the ops that models are made of
  models/               MODEL       video to features, one architecture per file
  tasks/, metrics/      TASK        head, per-clip loss, masked sums, one task per file
  net.py                NET         backbone and head as one network
  train/                TRAIN       the pure step, the loop, the optimizer, the mesh
  checkpoint.py         CHECKPOINT  state, data position and config, atomically
  evaluate.py           EVAL        an exact pass over a split
  report/               REPORT      a run's records to one HTML page

The programs that use them are in `experiments/`. Importing this package imports nothing else.
"""
