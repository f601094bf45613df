"""How much of an Atari game's frames can be predicted, and how much depends on the actions.

    python -m benchmarks.learning.predictable gopher chopper_command boxing

A two-layer network gets two frames of a random player and the next 15 actions and predicts the
frame after them, in the first 64 principal components. Printed on held-out episodes: its squared
error relative to that of the mean frame, and by how many standard errors it is worse with actions
of other rows. This hints at the games that a world model can learn from as few rows;
docs/multitask.md compares the two. Ten seconds a game on one core.
"""

import argparse
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, one_hot

import worldblocks as wb
from worldblocks.diagnose.held_out import shuffle

AHEAD = wb.diagnose.STEPS
PARTS = 64  # principal components of inputs and targets
UPDATES = 1200


class Rows(NamedTuple):
    """Windows of one player."""

    seen: Tensor  # two frames, at half the resolution, flattened
    actions: Tensor  # one-hot, of the next rows
    target: Tensor  # the frame after them, flattened


class Found(NamedTuple):
    """How well the frames of a game are predicted."""

    error: float
    mean_frame: float  # error of the mean frame
    worse: float  # with other actions, in standard errors

    @property
    def row(self) -> str:
        """Cells of the table."""
        ratio = self.error / self.mean_frame
        return f"{self.error:.3g} | {self.mean_frame:.3g} | {ratio:.2f} | {self.worse:.1f}"


def play(env: wb.envs.Environment, seed: int, steps: int, every: int = 1) -> Rows:
    """Windows of a random player without an episode end, one from each `every` rows."""
    [(key, space)] = env.action.items()
    random, row = np.random.default_rng(seed), env.reset(seed)
    frames, actions, last = [], [], []
    for step in range(steps):
        frames.append(row.obs["image"])
        last.append(row.is_last)
        actions.append(int(random.integers(space.classes)))
        row = env.reset(seed + step) if row.is_last else env.step({key: np.asarray(actions[-1])})
    begins = range(1, steps - AHEAD, every)
    whole = [t for t in begins if not any(last[t - 1 : t + AHEAD])]
    images = torch.as_tensor(np.stack(frames)).float() / 255
    small = avg_pool2d(images.permute(0, 3, 1, 2), 2).flatten(1)
    onehots = one_hot(torch.as_tensor(actions), space.classes).float()
    return Rows(
        torch.stack([small[t - 1 : t + 1].flatten() for t in whole]),
        torch.stack([onehots[t : t + AHEAD] for t in whole]),
        torch.stack([images[t + AHEAD].flatten() for t in whole]),
    )


def learn(rows: Rows) -> Callable[[Tensor, Tensor], Tensor]:
    """Fit a predictor of the target from the two frames and the actions."""
    input_mean, target_mean = rows.seen.mean(0), rows.target.mean(0)
    input_basis, target_basis = (
        torch.pca_lowrank(x - mean, min(PARTS, *x.shape), niter=2)[2]
        for x, mean in ((rows.seen, input_mean), (rows.target, target_mean))
    )
    unit = ((rows.seen - input_mean) @ input_basis)[:, 0].std() / 3 + 1e-6  # of the first component

    def inputs(x: Tensor, actions: Tensor) -> Tensor:
        return torch.cat([(x - input_mean) @ input_basis / unit, actions.flatten(1)], 1)

    known, wanted = inputs(rows.seen, rows.actions), (rows.target - target_mean) @ target_basis
    scale = wanted.std() + 1e-6
    layer = lambda a: [nn.Linear(a, 256), nn.SiLU(), nn.Dropout(0.2)]  # noqa: E731
    net = nn.Sequential(*layer(known.shape[1]), *layer(256), nn.Linear(256, target_basis.shape[1]))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
    for _ in range(UPDATES):
        batch = torch.randint(len(known), (128,))
        loss = (net(known[batch]) - wanted[batch] / scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    return lambda x, actions: net(inputs(x, actions)) * scale @ target_basis.T + target_mean


def measure(make: Callable[[], wb.envs.Environment], steps: int = 2000) -> Found:
    """Fit on two players, measure on two others."""
    torch.manual_seed(0)
    trained = [play(make(), seed, steps) for seed in (1, 2)]
    held = [play(make(), seed, steps * 3 // 5, every=wb.diagnose.LENGTH) for seed in (11, 12)]
    rows, test = (Rows(*map(torch.cat, zip(*part, strict=True))) for part in (trained, held))
    predict = learn(rows)
    with torch.no_grad():
        both = test.actions, shuffle(test.actions)
        guesses = [predict(test.seen, actions) for actions in both]
        right, wrong, usual = (
            (guess - test.target).square().mean(1) for guess in (*guesses, rows.target.mean(0))
        )
    gap = wrong - right
    worse = gap.mean() / (gap.std() / len(gap) ** 0.5 + 1e-12)
    return Found(float(right.mean()), float(usual.mean()), float(worse))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("games", nargs="+", choices=wb.envs.atari_games(), metavar="GAME")
    torch.set_num_threads(1)
    print("| game | error | mean frame | ratio | worse with other actions, standard errors |")
    print("|---|---|---|---|---|")
    for game in parser.parse_args().games:
        found = measure(functools.partial(wb.envs.atari, game, size=48))
        print(f"| {game} | {found.row} |", flush=True)


if __name__ == "__main__":
    main()
