import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from worldblocks.evaluate import compare
from worldblocks.run import Logger, launch, read_config, resume_command, run_folder


@dataclass(frozen=True, kw_only=True)
class Config:
    env: str = "ALE/Pong-v5"  # what is played
    steps: int = 3000
    logdir: str = ""
    seed: int = 0
    seeds: tuple[int, ...] = ()
    resume: bool = False


PRESETS = {"cpu": Config(), "smoke": Config(env="mazes.small:make", steps=20)}


class Recipe:
    """A `main` that records its configurations; a run writes one episode."""

    def __init__(self, stop_at=None):
        self.made, self.stop_at = [], stop_at

    def __call__(self, cfg):
        self.made.append(cfg)
        free = ("resume", "logdir")
        folder = run_folder(cfg.logdir, asdict(cfg), cfg.resume, may_change=free)
        if cfg.seed == self.stop_at:
            print(resume_command(folder))
            return 143
        logger = Logger(folder, resume_at=0, sinks=[])
        logger.episode(cfg.steps, score=float(cfg.seed), length=7)
        logger.close()
        return 0


@pytest.fixture
def command(monkeypatch, tmp_path):
    def run(words, recipe=None):
        recipe = recipe or Recipe()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(Figure, "savefig", lambda self, path: Path(path).touch())
        monkeypatch.setattr("sys.argv", ["recipe.py", *shlex.split(words)])
        known = {"name": "env", "compare": compare}
        return launch(recipe, PRESETS, "What it is.", **known), recipe.made

    return run


@pytest.mark.parametrize(
    ("words", "folder"),
    [("cpu --seed 3", "cpu-ALE-Pong-v5-3"), ("smoke", "smoke-mazes.small-make-0")],
)
def test_a_run_is_named_after_what_it_is(command, words, folder):
    code, [cfg] = command(words)
    assert code == 0
    assert re.fullmatch(rf"logs/{folder}-\d{{8}}-\d{{6}}", cfg.logdir)
    assert (cfg.steps, cfg.seed) == (20 if "smoke" in words else 3000, 3 if "3" in words else 0)


def test_options_and_a_folder(command, tmp_path):
    _, [cfg] = command("cpu --logdir here --steps 5")
    assert cfg == Config(logdir="here", steps=5)
    assert read_config(tmp_path / "here")["seeds"] == []


def test_several_seeds_are_several_runs_and_a_table(command, tmp_path, capsys):
    code, made = command("smoke --seeds 4 2 --logdir here")
    assert code == 0
    env = "mazes.small:make"
    wanted = [Config(env=env, steps=20, seed=n, logdir=f"here/seed-{n}") for n in (4, 2)]
    assert made == wanted
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[2:]] == ["here/seed-2", "here/seed-4", "here"]
    assert (tmp_path / "here" / "compare.png").exists()


def test_seeds_without_a_folder_share_one(command):
    _, made = command("cpu --seeds 0 1")
    parents = {Path(cfg.logdir).parent.as_posix() for cfg in made}
    assert len(parents) == 1
    assert re.fullmatch(r"logs/cpu-ALE-Pong-v5-\d{8}-\d{6}", parents.pop())


def test_an_interrupted_seed_stops_and_the_printed_command_continues(command, capsys):
    code, made = command("cpu --seeds 0 1 2", Recipe(stop_at=1))
    assert (code, [cfg.seed for cfg in made]) == (143, [0, 1])
    _, _, *printed = shlex.split(capsys.readouterr().out)
    code, again = command(shlex.join(printed))
    assert code == 0
    assert [(cfg.seed, cfg.resume) for cfg in again] == [(0, True), (1, True), (2, False)]
    assert [Path(cfg.logdir) for cfg in again[:2]] == [Path(cfg.logdir).absolute() for cfg in made]


def test_runs_that_are_there_are_not_begun_again(command, tmp_path):
    command("cpu --seeds 1 --logdir here")
    with pytest.raises(SystemExit, match="here holds the runs of seeds 1 already; add --resume to"):
        command("cpu --seeds 0 1 --logdir here")
    assert not (tmp_path / "here" / "seed-0").exists()
    for words in ("", " --resume"):
        with pytest.raises(
            SystemExit, match="here holds the runs seed-1 of several seeds; give an"
        ):
            command(f"cpu --logdir here{words}")
        command("cpu --logdir one" + words)
        with pytest.raises(
            SystemExit, match="one holds one run, and --seeds makes a folder of run"
        ):
            command(f"cpu --seeds 0 1 --logdir one{words}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cpu --seed 3 --seeds 0 1", "--seed is for one run and --seeds 0 1 for several; give"),
        ("cpu --seeds 0 1 0", "--seeds 0 1 0 names a seed twice; each run needs a seed of its own"),
    ],
)
def test_seeds_that_make_no_sense(command, words, message):
    with pytest.raises(SystemExit, match=message):
        command(words)


def test_help_describes_the_presets(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        command("--help")
    shown = capsys.readouterr().out
    assert "What it is." in shown
    assert "3,000 steps" in shown
