"""Checks of the parts of a training step: returns, KL, normalisers, optimisers, slow copies."""
