"""Training from waveforms that lie whole in the accelerator's memory.

Needs Keras on any backend (TensorFlow, JAX, PyTorch's is not tried), numpy and soundfile; nothing
of the feature cache. May import `edge` and the network.
"""
