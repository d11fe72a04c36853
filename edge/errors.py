"""The error whose text is one sentence for a person, and ends a command."""


class EdgelidError(Exception):
    """An error to show a person as one sentence on stderr."""

    status = 1  # of the process that ends with it
