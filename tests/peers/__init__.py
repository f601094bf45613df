"""Blocks of other libraries under the checks; they are no part of the tests (see `__main__`)."""
