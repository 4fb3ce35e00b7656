"""Convolution and pooling of clips: windows are checked once, then the fastest lowering computes.

window.py                                strides, padding and dilation of any op, made definite
conv.py                                  conv2d, conv3d and their transposes, one function each
  conv_table.py                          which lowering computes what, by backend and shape
  conv_lowerings.py, depthwise.py        the lowerings
    conv_steps.py                        what takes one axis of the window out of them
conv_modules.py, factorised.py           Conv3D, DepthwiseConv3D, ...; Conv2Plus1D, SeparableConv3D, ...
causal.py, shift.py                      convolutions that go on from a state; channels taken from other frames
pool.py, pool_lowerings.py               max_pool, avg_pool
"""
