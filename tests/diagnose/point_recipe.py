"""The Atari recipe's agent and losses in `PointWorld`: a file for `--recipe`."""

import dataclasses
from pathlib import Path

from point_world import PointWorld

import dreamerv3_atari
import worldblocks as wb
from dreamerv3_atari import act, actor_critic_loss, world_model_loss

__all__ = ["act", "actor_critic_loss", "environments", "load", "world_model_loss"]

CFG = dataclasses.replace(
    dreamerv3_atari.PRESETS["smoke"], units=16, deter=16, groups=3, classes=5, depth=2, length=7
)


def new(picture: bool):
    world = PointWorld(picture=picture)
    return dreamerv3_atari.Agent(world.observation, world.action, CFG)


def environments(cfg, n: int, seed: int):
    return wb.envs.EnvVector([PointWorld(picture=cfg.gray) for _ in range(n)], seed=seed)


def load(run, device: str = "auto"):
    config = wb.run.read_config(run)
    agent = new(config["gray"])
    wb.run.load_module_state(agent, wb.run.Checkpoint(run).weights("agent"))
    return agent.eval(), dataclasses.replace(CFG, gray=config["gray"])


def make_run(folder: Path, *, picture: bool = False) -> Path:
    """A run folder with a checkpoint, and nothing else."""
    wb.run.run_folder(folder, {"recipe": "point_recipe", "gray": picture, "game": "point"}, False)
    wb.run.Checkpoint(folder).save({"agent": new(picture).state_dict()})
    return folder
