"""From a training checkpoint to a model file for the device."""
