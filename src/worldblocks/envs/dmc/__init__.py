"""The DeepMind Control suite."""
