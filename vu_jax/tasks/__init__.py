"""TASK: what is learnt from the features, one file per task; the file's name is its name in a config.

A file defines `@dataclass(frozen=True) class Task` with `head() -> nn.Module`, a per-clip
`loss(out, batch) -> ((B,), parts)`, `sums(out, batch) -> {name: (sum, weight)}` and `summary(totals) -> {name: float}`.
"""
