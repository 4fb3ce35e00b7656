"""TRAIN: the pure step, the only loop, the optimizer and the mesh. Objects are handed in; none is imported here."""
