"""The clips that are learnt from: manifest, importers, checks, splits, cuts of a fixed length.

May import from `train` only `parallel` and `command`; knows no features and no network.
"""
