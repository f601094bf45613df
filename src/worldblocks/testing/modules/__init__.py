"""Checks of encoders, decoders and heads."""
