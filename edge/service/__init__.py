"""Listening as a service: its systemd unit, and settings that change while it runs.

May import anything of `edge` but `bench` and `cli`.
"""
