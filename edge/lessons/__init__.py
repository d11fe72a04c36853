"""Lessons: what a household taught, and the correction of the model's scores that it makes."""
