"""Continuous spoken language identification on small devices."""

__version__ = "0.1.0"
