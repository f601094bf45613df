"""One run of ours: `main` of recipes/dreamerv3_gym.py on the environments of `games`.

`python -m benchmarks.closed_loop` starts it: python -m benchmarks.closed_loop.ours JSON.
"""

import json
import sys
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.closed_loop.games import GAMES, SETTINGS
from benchmarks.closed_loop.record import Record
from benchmarks.peers.jax_tools import limit
from benchmarks.provenance import changed, provenance


def run(game: str, seed: int, steps: int, out: str) -> None:
    """Train from scratch for `steps` environment steps and leave the record in `out`."""
    import dreamerv3_gym as recipe
    import worldblocks as wb

    record = Record(out)
    facts = {**provenance(), "changed": changed("src", "recipes", "benchmarks/closed_loop")}
    record.provenance({**facts, "settings": {**SETTINGS[game], "steps": steps}})
    settings = SETTINGS[game]
    cfg = recipe.Config(
        **settings,
        steps=steps,
        seed=seed,
        device="cpu",
        bf16=False,
        workers=False,
        prefill=settings["batch"] * settings["length"],
        logdir=str(record.folder / "run"),
        log=(),
        video_every=0,
        save_every=0,
    )
    made = environment(game)
    vector = lambda cfg, n, seed: wb.envs.EnvVector([made] * n, seed=seed, workers=False)  # noqa: E731
    with mock.patch.multiple(recipe, environments=vector, **watched(recipe, record)):
        recipe.main(cfg)
    if record.step < steps:  # interrupted: not finished
        record.close()
        raise SystemExit(f"stopped at step {record.step} of {steps}")
    for line in wb.run.read_jsonl(record.folder / "run" / "episodes.jsonl"):
        record.step = int(line["step"])
        record.episode(line["score"], line["length"])
    record.step = steps
    record.finish()


def watched(recipe: Any, record: Record) -> dict[str, Any]:
    """`build`, `act` and `learn` of the recipe, which also write the record."""
    act, learn = record.timed("policy", recipe.act), record.timed("train", recipe.learn)
    moved: dict[str, float] = {}

    def build(*arguments: Any) -> Any:
        agent, optimizer = recipe_build(*arguments)
        watch_step(agent, optimizer, moved, record)
        record.begin()
        return agent, optimizer

    def acting(agent: Any, obs: Any, carry: Any, is_first: Any, **options: Any) -> Any:
        record.step += len(is_first)
        record.times["n_policy"] += 1
        return act(agent, obs, carry, is_first, **options)

    def learning(train: Any, agent: Any, replay: Any, size: int) -> Any:
        metrics = learn(train, agent, replay, size)
        low, high = agent.return_scale.range.tolist()
        line = {name: float(value) for name, value in metrics.items()}
        record.update(record.updates + 1, {"lo": low, "hi": high, **line, **moved})
        return metrics

    recipe_build = recipe.build
    return {"build": build, "act": acting, "learn": learning}


def watch_step(agent: Any, optimizer: Any, moved: dict[str, float], record: Record) -> None:
    """Let every step of the optimiser leave its norms in `moved`, as the official one's does."""
    parameters = [one for one in agent.parameters() if one.requires_grad]
    count, step = sum(one.numel() for one in parameters), optimizer.step

    def norm(tensors: Any) -> float:
        return float(np.sqrt(sum(float(one.detach().norm()) ** 2 for one in tensors)))

    def before() -> list[Any]:
        moved["grad_norm"] = norm(one.grad for one in parameters if one.grad is not None)
        return [one.detach().clone() for one in parameters]

    def after(old: list[Any]) -> None:
        change = norm(one - two for one, two in zip(parameters, old, strict=True))
        moved["update_rms"] = change / count**0.5
        moved["param_rms"] = norm(parameters) / count**0.5
        moved["param_count"] = count

    first, last = record.timed("extra", before), record.timed("extra", after)

    def stepping() -> None:
        old = first()
        step()
        last(old)

    optimizer.step = stepping


def environment(game: str) -> Any:
    """A `wb.envs.Environment` of a game, which replays its episode to be restored."""
    import worldblocks as wb

    kind = GAMES[game]
    image = kind.dtype == np.uint8
    seen = wb.spaces.Image(*kind.shape) if image else wb.spaces.Continuous(kind.shape)
    actions = wb.spaces.Discrete(kind.classes) if kind.classes else wb.spaces.Continuous((1,))

    class Env:
        observation, action = {kind.key: seen}, {"action": actions}

        def __init__(self) -> None:
            self.game = kind()

        def reset(self, seed: int) -> wb.envs.Step:
            return wb.envs.Step({kind.key: self.game.reset(seed)}, 0.0, True, False, False)

        def step(self, action: dict[str, np.ndarray]) -> wb.envs.Step:
            obs, reward, terminated, truncated = self.game.step(action["action"])
            over = terminated or truncated
            return wb.envs.Step({kind.key: obs}, reward, False, over, terminated)

        def get_state(self) -> None:
            return None

        def set_state(self, state: bytes) -> None:
            raise wb.envs.NotRestored("a game of benchmarks.closed_loop saves no state")

        def close(self) -> None:
            pass

    return Env


if __name__ == "__main__":
    limit(1)
    run(**json.loads(sys.argv[1]))
