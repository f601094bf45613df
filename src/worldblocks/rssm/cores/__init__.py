"""Deterministic transitions of a recurrent state-space model."""

from worldblocks.rssm.cores.block_gru import BlockGRU
from worldblocks.rssm.cores.gru import GRU

__all__ = ["GRU", "BlockGRU"]
