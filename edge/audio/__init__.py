"""Where sound comes from: files, PCM streams and microphones, with what was lost on the way.

May import from `edge` only `errors`, `frontend` and `system`; knows no model and no output.
"""
