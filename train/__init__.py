"""Training and evaluation of language identification models."""
