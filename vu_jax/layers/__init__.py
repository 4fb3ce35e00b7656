"""LAYERS: the ops that models are made of. Models import from here and from nowhere else in the package.

Functions first, thin modules on top; channels last; parameters float32, computation in the field `dtype`.

  convolution/     convolution, pooling and shifts, each one function with several lowerings and a table that picks one
  recurrence/      RNN to PredRNN over clips, weight gradients outside of the loop over time
  attention/       softmax(Q K^T / sqrt(d)) V, its forms over space and time, patches, positions, transformer blocks
  blocks/          parts that several models share: residual blocks, Inception's, recurrence between CNNs, forecasters
  dense.py, product.py                     linear map and bias; the matrix product below it and others
  initial.py, precision.py                 how kernels start; the dtype policy
  norm.py, batch_norm.py, layer_norm.py    norms with a model's settings; two norms with gradients of their own
  gates.py, drop.py                        squeeze-excite, self-gating; dropout, stochastic depth
"""
