"""Names of Atari games, and what is wrong with a name or with an installation."""

import functools
import importlib.metadata
import os
import re
from pathlib import Path
from types import ModuleType

from worldblocks.envs.errors import extra, unknown

OLDEST = (0, 12)  # of ale_py; earlier ones save and draw in another form

# `ALE/Pong-v5`, `PongNoFrameskip-v4`, `Pong-ram-v0` … as gym and gymnasium wrote them
_ID = re.compile(r"(?:ALE/)?(\w+?)(-ram)?(NoFrameskip|Deterministic)?-v(\d)")
_REPEAT = {"NoFrameskip": "repeat=1, ", "Deterministic": "repeat=4, "}


def emulator() -> ModuleType:
    """The package `ale_py`, with its ROMs and Pillow.

    Raises:
        ImportError: it is missing, or too old.
    """
    with extra("atari"):
        import ale_py
        import ale_py.roms
        import PIL.Image  # noqa: F401
    version = importlib.metadata.version("ale-py")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(
            f"wb.envs.atari needs ale-py {oldest} or later, and this is {version}: "
            f'pip install "ale-py>={oldest}"'
        )
    return ale_py


@functools.cache
def atari_games() -> tuple[str, ...]:
    """Names of the games that `atari` accepts: the single-player ROMs of ale_py."""
    interface = emulator().ALEInterface
    paths = {name: _rom(name) for name in sorted(emulator().roms.get_all_rom_ids())}
    return tuple(name for name, path in paths.items() if path and interface.isSupportedROM(path))


def not_a_game(name: str) -> ValueError:
    """Why there is no game `name`, and what to write instead."""
    games = atari_games()
    known = name in emulator().roms.get_all_rom_ids()
    if known and _rom(name) is not None:
        return ValueError(
            f"the Atari game {name!r} is for two players, and wb.envs.atari plays those for one; "
            f"wb.envs.atari_games() lists them"
        )
    if known or not games:
        place = os.environ.get("ALE_ROMS_DIR")
        remedy = (
            "without the environment variable ALE_ROMS_DIR, those of ale-py are taken"
            if place
            else "`pip install --force-reinstall ale-py` brings it back"
        )
        folder = place or Path(emulator().roms.__file__).parent
        return ValueError(f"the ROM of {name!r} is missing or altered in {folder}; {remedy}")
    if found := _ID.fullmatch(name):
        plain = {game.replace("_", ""): game for game in games}
        game = plain.get(found[1].lower().replace("_", ""))
        repeat = "repeat=4, " if found[4] == "5" else _REPEAT.get(found[3], "")
        sticky = 0.0 if found[4] == "4" else 0.25
        if game:
            return ValueError(
                f"{name!r} is an id of gymnasium; the game is called {game!r} here: "
                f"wb.envs.atari({game!r}, {repeat}sticky={sticky})"
            )
    return unknown("Atari game", name, games, "wb.envs.atari_games() lists them")


def _rom(name: str) -> Path | None:
    """The file of a game; None if it is missing or altered."""
    try:
        return emulator().roms.get_rom_path(name)
    except OSError:
        return None
