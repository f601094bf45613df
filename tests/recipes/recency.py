"""A replay selector that draws newer windows more often."""

import numpy as np

import worldblocks as wb


class Recency:
    """A start k rows before the newest is drawn with probability proportional to 2^(-k / halflife).

    The protocol `wb.replay.Selector`: `draw`, `state` and `load`.
    """

    def __init__(self, *, halflife, seed):
        self.rate = np.log(2) / halflife
        self.generator = np.random.default_rng(seed)

    def draw(self, size, window, stored):
        starts = stored.starts(window)  # valid ones of each stream
        mass = -np.expm1(-self.rate * starts)  # sum of 2^(-k / halflife), up to a factor
        stream = self.generator.choice(len(starts), size, p=mass / mass.sum())
        uniform = self.generator.random(size) * mass[stream]
        ago = np.minimum(-np.log1p(-uniform) // self.rate, starts[stream] - 1).astype(np.int64)
        return wb.replay.Drawn(stream, stored.oldest[stream] + starts[stream] - 1 - ago)

    def state(self):
        return self.generator.bit_generator.state

    def load(self, state):
        self.generator.bit_generator.state = state
