"""MODEL: video to features, one architecture per file; the file's name is its name in a config.

A file defines `class Model(nn.Module)` and `TINY` (small arguments for tests). The call
`model(video, train=...)` takes `(B T H W C)` floats and returns a dict with `tokens (B t h w D)` and `pooled (B D)`.
`PRESETS` holds published configurations, name -> values of fields, and `TINY_CLIP = (T, H, W)` the clip that tests take
where (3, 16, 16) is too small. A recurrent or causal model also has `initial_state(batch, height, width)` and
`stream(state, video)`.
"""
