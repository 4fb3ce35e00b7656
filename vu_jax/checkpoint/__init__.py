"""CHECKPOINT: state and data position of a run, written atomically by Orbax, and what is read back from them.

- `saving`: the checkpoints of a run: saved, kept, restored, and passed over when damaged
- `contents`, `seals`: what a checkpoint says of itself, and sums of its files
- `scores`: its evaluations: which checkpoint is best, and for how long nothing has improved
- `transfer`: parameters of another run, or of a file, as the start of a new one
- `workdir`: the run directory that all this belongs to
"""
