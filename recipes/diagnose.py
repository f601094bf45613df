"""Is this world model any good? One HTML page about a run, with a light for each question.

    python recipes/diagnose.py RUN [--task TASK] [--steps 4000] [--seed N] [--output PAGE]

The agent plays episodes that it was not trained on. Red and amber lights come with their known
causes, the most common first. The recipe is the file beside this one that the run names, or
`--recipe`. It needs `load`, `environments`, `act`, `world_model_loss` and `actor_critic_loss`.
A run with several tasks has a page for each.

Extras: run.
"""

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import worldblocks as wb
from worldblocks.run import Seed, at_least

tyro = wb.run.command_line(__file__)

NEEDED = ("load", "environments", "act", "world_model_loss", "actor_critic_loss")


@dataclass(frozen=True, kw_only=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # a run folder
    recipe: Path | None = None  # recipe file; default: the one that the run names
    task: str = ""  # of a multi-task run; default: its first
    steps: Annotated[int, at_least(wb.diagnose.FEWEST)] = 4000  # rows to play in all environments
    seed: Seed | None = None  # of the episodes; default: the run's plus 1,000,000
    device: str = "auto"
    output: Path | None = None  # the page; default: RUN/diagnosis.html, or diagnosis-<task>.html

    def __post_init__(self):
        wb.run.check_options(self)


def main(cfg: Config) -> int:
    """Returns 0 whatever the lights."""
    recipe = wb.run.recipe_of(cfg.run, cfg.recipe, tool=__file__, needed=NEEDED)
    several = "task" in inspect.signature(recipe.load).parameters
    task = wb.tasks.chosen_task(cfg.run, cfg.task, several)
    agent, saved = recipe.load(cfg.run, cfg.device, *([task] if task else []))
    sections, page = wb.diagnose.diagnose(
        cfg.run,
        recipe,
        agent,
        saved,
        steps=cfg.steps,
        seed=cfg.seed,
        output=cfg.output,
        task=task,
    )
    print(*wb.diagnose.verdicts(sections), sep="\n")
    print(f"\n{wb.diagnose.summary(sections)}\n{page}")
    return 0


if __name__ == "__main__":
    sys.exit(wb.run.launch_tool(main, Config, __doc__))
