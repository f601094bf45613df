"""The device an agent runs on: which one, CUDA graphs, memory, random states."""
