"""The one error of this package."""


class TestbedError(Exception):
    """Something did not come true; the message says what was waited for and what was seen instead."""

    __test__ = False  # pytest: not a class of tests
