"""Recorded episodes as batches: from NumPy arrays, npz files and Minari data sets."""
