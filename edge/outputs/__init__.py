"""Where answers go: standard output, terminal, event log, hooks, MQTT, web page, reports.

May import from `edge` all that listens, and `config`; not `service`, `bench` or `cli`.
"""
