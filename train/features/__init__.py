"""From clips to log-mel frames: augmentation, codecs, noise and rooms, and the cache on disk.

May import from `train` only what is below it, such as `corpus` and `parallel`; knows no network.
"""
