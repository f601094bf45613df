"""Checks of numbers that the factories of environments share."""

from numbers import Integral


def at_least_one(function: str, **values: int) -> None:
    """Refuse sizes and counts that are not whole numbers of 1 or more, naming the argument."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{function} got {name}={value!r}; it takes a whole number from 1 up")
