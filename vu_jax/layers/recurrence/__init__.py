"""Recurrence over the frames of a clip.

recurrent.py                             RNN, LSTM, GRU, ConvLSTM, ConvGRU over clips
predrnn.py, attention_lstm.py            PredRNN's spatio-temporal LSTM; the LSTM with spatial attention
  decoupling.py                          PredRNN v2's penalty on two memories that grow alike
cells.py, input_map.py                   one step in time; what the frames contribute, for all of them at once
over_time.py, hoist.py                   a cell over a clip; weight gradients outside of the loop
"""
