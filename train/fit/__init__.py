"""The training run: what it reads, its batches, teacher, loop, devices and development scores.

May import anything of `train` but `synthesis`, `evaluation` and `cli`.
"""
