"""The model file: read, checked, tried in a sandbox, and run by a TFLite interpreter.

May import from `edge` only `errors`, `languages`, `system`, `frontend` and `features`; knows no
audio source.
"""
