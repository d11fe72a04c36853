"""The one exception that commands turn into a sentence."""


class EdgelidError(Exception):
    """An error to show a person as one sentence on stderr."""

    status = 1  # of the process that ends with it
