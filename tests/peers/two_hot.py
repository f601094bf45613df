"""The error of the mean of a two-hot head on a CPU, on targets whose mean is exactly 0.

    python tests/peers/two_hot.py                          torch's own linear layer, and ours
    python tests/peers/two_hot.py --r2dreamer CHECKOUT     its distribution on its linear layer too

Every batch has each feature vector twice, with a target and its negative. 200 updates of Adam
(lr 1e-3) on 128 rows, 255 bins, three seeds. Printed: the largest |mean|, and the number of updates
with one over 0.3.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import worldblocks as wb

FEATURE, UNITS, BINS = 16, 32, 255


def ours() -> tuple[nn.Module, Callable[[Any], Any]]:
    """`TwoHotHead`."""
    return wb.heads.TwoHotHead(FEATURE, units=UNITS, layers=1, bins=BINS), lambda out: out


def plain() -> tuple[nn.Module, Callable[[Any], Any]]:
    """The same head with `nn.Linear` as the last layer."""
    bins = wb.transforms.symexp_bins(BINS)
    return network(), lambda logits: wb.distributions.TwoHot(logits, bins)


def r2dreamer() -> tuple[nn.Module, Callable[[Any], Any]]:
    """r2dreamer's distribution on the linear layer that its heads end with."""
    theirs = importlib.import_module("distributions")

    class Output:
        def __init__(self, logits: torch.Tensor) -> None:
            self.out = theirs.symexp_twohot(logits, BINS)
            self.mean = self.out.mode()

        def nll(self, target: torch.Tensor) -> torch.Tensor:
            return -self.out.log_prob(target.unsqueeze(-1))

    return network(), Output


def network() -> nn.Module:
    """A hidden layer, and an output layer initialised to zero."""
    last = nn.Linear(UNITS, BINS)
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    hidden = (nn.Linear(FEATURE, UNITS), nn.RMSNorm(UNITS, eps=1e-4), nn.SiLU())
    return nn.Sequential(*hidden, last)


def strays(make: Callable[[], Any], seed: int) -> tuple[float, int]:
    """The largest |mean| in 200 updates, and the number of updates with one over 0.3."""
    torch.manual_seed(seed)
    net, read = make()
    optimizer, worst = torch.optim.Adam(net.parameters(), lr=1e-3), []
    for _ in range(200):
        feature, target = torch.randn(64, FEATURE), torch.rand(64)
        out = read(net(torch.cat([feature, feature])))
        worst.append(out.mean.detach().abs().max().item())
        optimizer.zero_grad()
        out.nll(torch.cat([target, -target])).mean().backward()
        optimizer.step()
    return max(worst), sum(x > 0.3 for x in worst)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--r2dreamer", type=Path, help="a checkout of NM512/r2dreamer")
    checkout = parser.parse_args().r2dreamer
    heads = [ours, plain] + [r2dreamer] * (checkout is not None)
    sys.path.insert(0, str(checkout))
    for head in heads:
        for seed in range(3):
            largest, often = strays(head, seed)
            print(f"{head.__name__:10} seed {seed}: largest |mean| {largest:.3g}, {often} over 0.3")
