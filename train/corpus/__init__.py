"""The clips that are learnt from: manifest, importers, checks, splits, cuts of a fixed length.

May import from `train` only what is below it, such as `parallel`; knows no features and no network.
"""
