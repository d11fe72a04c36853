"""The web page, its HTTP API and the metrics: read-only, from a thread of its own."""
