"""Rows in memory and in files: layouts, rings, and the storages that hold them."""
