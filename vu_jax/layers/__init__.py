"""LAYERS: the ops that models are made of. Models import from here and from nowhere else in the package.

Functions first, thin modules on top; channels last; parameters float32, computation in the field `dtype`.

  window.py, precision.py              what all share: windows checked once, the dtype policy
  dense.py, initial.py                 linear map and bias; how kernels start
  conv.py                              conv2d, conv3d and their transposes, one function each
    conv_table.py                      which lowering computes what, by backend and shape
    conv_lowerings.py, depthwise.py    the lowerings
  conv_modules.py, factorised.py       Conv3D, DepthwiseConv3D, ...; Conv2Plus1D, SeparableConv3D, ...
  pool.py, pool_lowerings.py           max_pool, avg_pool
  recurrent.py                         RNN, LSTM, GRU, ConvLSTM, ConvGRU over clips
  predrnn.py, attention_lstm.py        PredRNN's spatio-temporal LSTM; the LSTM with spatial attention
    decoupling.py                      PredRNN v2's penalty on two memories that grow alike
    cells.py, input_map.py             one step in time; what the frames contribute, for all of them at once
    over_time.py, hoist.py             a cell over a clip; weight gradients outside of the loop
  attention.py                         attend: softmax(Q K^T / sqrt(d)) V
    attention_lowerings.py             all scores at once; cuDNN
    attention_chunked.py               a few queries at a time, for long clips
  multi_head.py                        MultiHeadAttention: projections around attend
  space_time.py, window_attention.py   joint, divided, axial, factorised, windowed attention over a grid
  transformer.py, pooled_attention.py  the block with norms in front, stacks of it; MViT's attention on pooled grids
  masked.py                            tokens that are hidden, and the decoder that predicts their pixels
  embed.py, positions.py               patches and tubelets; learned, sin-cos and rotary positions
  gates.py, shift.py, drop.py          squeeze-excite, self-gating; temporal shift; stochastic depth
  norm.py                              batch norm and layer norm with the settings of a whole model
  residual.py, resnet_trunk.py         blocks and stages of residual networks; the ResNet on every frame
  inception.py                         Inception's blocks, in space, full 3-D or separable
  cnn.py                               a small CNN on every frame
  frame_change.py, frame_features.py   what is seen of the frames; the CNN on each of them, by name
  recurrent_maps.py, frames_rnn.py     parts of models: recurrence on maps between CNNs; over the features of frames
  causal.py, time_pool.py              causal convolutions, and pooling over time, that go on from a state
  forecast.py, scheduled_sampling.py   Forecaster: a stack that predicts the next frame; which frames it reads instead
  translators.py, patches.py           SimVP's networks over all frames at once; pixels folded into channels
"""
