"""Speech made by machines: sentences, voices, corpora of them, and the sample recording.

May import anything of `train` but `evaluation` and `cli`.
"""
