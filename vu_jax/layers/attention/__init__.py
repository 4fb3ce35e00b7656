"""Attention between the tokens of a clip.

attention.py                             attend: softmax(Q K^T / sqrt(d)) V
  attention_lowerings.py                 all scores at once; cuDNN
  attention_chunked.py                   a few queries at a time, for long clips
multi_head.py                            MultiHeadAttention: projections around attend
space_time.py, window_attention.py       joint, divided, axial, factorised, windowed attention over a grid
transformer.py, pooled_attention.py      the block with norms in front, stacks of it; MViT's attention on pooled grids
embed.py, positions.py                   patches and tubelets; learned, sin-cos and rotary positions
masked.py                                tokens that are hidden, and the decoder that predicts their pixels
"""
