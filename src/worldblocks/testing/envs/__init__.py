"""Checks of environments and of vectors of them."""
