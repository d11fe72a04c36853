"""Work shared out to processes of this machine, or to other machines.

May import nothing of `train`; knows nothing about what the work is.
"""
