"""The network in Keras, its numbers' precision, and checkpoints of it.

May import from `train` only `config` and `architecture`; knows no data.
"""
