"""Ranking the phrases of a menu for an instruction."""
