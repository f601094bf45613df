"""The command line of a recipe (a preset, options, one or several seeds) and of a tool."""

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worldblocks._install import extras_of
from worldblocks.run.cli.errors import DEBUG, sentences
from worldblocks.run.cli.limits import show_limits
from worldblocks.run.device.devices import pick_device
from worldblocks.run.extras import extra
from worldblocks.run.folder import check_folder, default_logdir, named_folder

HELP = f"\n\n{DEBUG} shows the traceback of an error."


def launch(
    main: Callable[[Any], int],
    presets: Mapping[str, Any],
    doc: str | None,
    *,
    name: str,
    compare: Callable[[list[str], Path], str] | None = None,
) -> int:
    """Parse the command line `PRESET [options]` and start one run, or one run per seed.

    The presets are instances of one frozen dataclass, whose fields are the options; it has `steps`,
    `seed`, `seeds`, `logdir` and `resume`. The default run folder is
    `logs/<preset>-<value of the field `name`>-<seed>-<time>`. With `--seeds 0 1 2` the runs are
    made one after another in `<logdir>/seed-0`, `<logdir>/seed-1`, …; `--resume` continues those
    that exist and starts the others. `main` gets `seeds=()` and one `seed`.

    Args:
        main: Makes the run of a configuration and returns an exit code.
        presets: Configurations by name.
        doc: The text above the options of `--help`: the recipe's `__doc__`.
        name: The field with the game or task, used in the name of the run folder.
        compare: `wb.evaluate.compare`. After the runs of all seeds, it returns their table, which
            is printed, and draws `<logdir>/compare.png`.

    Returns:
        The first exit code that is not 0 (later seeds are not run), else 0.

    `~` and `{timestamp}` in `logdir` are replaced. An error of the user's request, such as an
    unknown game or a full disk, is a sentence; `--debug` shows its traceback.

    Raises:
        SystemExit: The command line is wrong or asks for help, the folder holds a run already,
            there is no run to resume, or `main` raised an error of the user's request.
    """
    with sentences(main.__module__):
        described = {key: (f"{cfg.steps:,} steps", cfg) for key, cfg in presets.items()}
        extras = extras_of(doc or "") or ["run"]
        tyro = extra("tyro", Path(sys.argv[0]).name, extras=extras)
        show_limits(type(next(iter(presets.values()))), tyro.conf.arg)
        words = [word for word in sys.argv[1:] if word != DEBUG]
        cfg = tyro.extras.overridable_config_cli(
            described, description=(doc or "") + HELP, args=words
        )
        # "ALE/Pong-v5" or "mazes.small:make" becomes part of a folder name.
        task = re.sub(r"[^\w.-]+", "-", str(getattr(cfg, name))).strip("-.")
        preset = next(word for word in words if word in presets)
        parts = (preset, task) if cfg.seeds else (preset, task, cfg.seed)
        logdir = named_folder(cfg.logdir or default_logdir(*parts))
        cfg = dataclasses.replace(cfg, logdir=logdir)
        pick_device(getattr(cfg, "device", "cpu"))
        _check_kind(Path(logdir), cfg.seeds)
        if not cfg.seeds:
            check_folder(logdir, cfg.resume)  # `main` may first ask a language model
            return main(cfg)
        _check_seeds(cfg.seeds)
        return _run_seeds(main, cfg, compare)


def launch_tool(main: Callable[[Any], int], config: type, doc: str | None) -> int:
    """Parse the command line of a tool and run it; errors are sentences as in `launch`.

    Args:
        main: Does the work and returns an exit code.
        config: A dataclass, whose fields are the options.
        doc: The text above the options of `--help`: the tool's `__doc__`.
    """
    with sentences(main.__module__):
        tyro = extra("tyro", "launch_tool")
        show_limits(config, tyro.conf.arg)
        words = [word for word in sys.argv[1:] if word != DEBUG]
        cfg = tyro.cli(config, description=(doc or "") + HELP, args=words)
        given = vars(cfg).items()
        paths: dict[str, Any] = {k: x.expanduser() for k, x in given if isinstance(x, Path)}
        if logdir := getattr(cfg, "logdir", ""):
            paths["logdir"] = named_folder(logdir)
        pick_device(getattr(cfg, "device", "cpu"))
        return main(dataclasses.replace(cfg, **paths))


def _check_kind(folder: Path, seeds: tuple[int, ...]) -> None:
    """Raise if a folder holds one run and several are wanted, or the other way round."""
    one = (folder / "config.json").exists()
    several = sorted(path.parent.name for path in folder.glob("seed-*/config.json"))
    if one and seeds:
        raise SystemExit(
            f"{folder} holds one run, and --seeds makes a folder of runs; give another --logdir, "
            f"or continue that run with --resume and without --seeds"
        )
    if several and not seeds and not one:
        raise SystemExit(
            f"{folder} holds the runs {', '.join(several)} of several seeds; give another "
            f"--logdir, or continue them with --resume and --seeds"
        )


def _run_seeds(
    main: Callable[[Any], int], cfg: Any, compare: Callable[[list[str], Path], str] | None
) -> int:
    """One run per seed, then the table of all runs."""
    folders = {seed: Path(cfg.logdir) / f"seed-{seed}" for seed in cfg.seeds}
    there = [seed for seed, folder in folders.items() if (folder / "config.json").exists()]
    if there and not cfg.resume:
        raise ValueError(
            f"{cfg.logdir} holds the runs of seeds {_words(there)} already; add --resume to "
            f"continue them, or give another --logdir"
        )
    for seed, folder in folders.items():
        single = dataclasses.replace(
            cfg, seeds=(), seed=seed, logdir=str(folder), resume=seed in there
        )
        if code := main(single):
            return code
    if compare:
        print(compare([cfg.logdir], Path(cfg.logdir) / "compare.png"))
    return 0


def _check_seeds(seeds: tuple[int, ...]) -> None:
    if any(word == "--seed" or word.startswith("--seed=") for word in sys.argv):
        raise ValueError(
            f"--seed is for one run and --seeds {_words(seeds)} for several; give one of the two"
        )
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            f"--seeds {_words(seeds)} names a seed twice; each run needs a seed of its own"
        )


def _words(seeds: tuple[int, ...] | list[int]) -> str:
    return " ".join(map(str, seeds))
