"""What ends a run, or a row of it, with a message instead of a traceback."""


class BenchError(Exception):
    """The message says what was being done and what was seen."""
