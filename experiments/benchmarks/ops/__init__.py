"""The suite "ops".

suite.py                                       the rows: every case, pass and dtype, and who takes part
case.py                                        what an op is given; conv_cases, pool_cases, sequence_cases list them
jax_ops.py, torch_ops.py and those they import how each side computes an op
"""
