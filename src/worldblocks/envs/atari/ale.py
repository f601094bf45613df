"""Atari games through the Arcade Learning Environment, with the reference's preprocessing."""

import difflib
import functools
from types import ModuleType
from typing import Any

import numpy as np

from worldblocks.envs.atari.image import preprocess
from worldblocks.envs.atari.machine import Machine
from worldblocks.envs.atari.packing import pack, unpack
from worldblocks.envs.record import Step
from worldblocks.spaces import Actions, Discrete, Image, Spaces

_POOL = 2  # frames the image is the maximum of


def atari(
    game: str,
    *,
    size: int = 64,
    gray: bool = False,
    repeat: int = 4,
    sticky: float = 0.0,
    noops: int = 30,
    full_actions: bool = False,
    max_frames: int = 108_000,
    timeout_is_terminal: bool = False,
) -> "Atari":
    """An Atari game as an `Environment`: observation `image`, action `action`.

    The defaults are those of Atari 100k. Preprocessing follows `embodied/envs/atari.py` of
    danijar/dreamerv3 (commit e3f0224); sticky actions are Machado et al. 2018, section 5.2.

    Args:
        game: ALE's name of the game, `pong`, `ms_pacman` … (`atari_games()` lists them).
        size: height and width of the image.
        gray: one channel instead of RGB.
        repeat: emulated frames per action; the image is the maximum over the last two.
        sticky: probability, at each emulated frame, that the action of the frame before stays.
        noops: a reset does 0 … `noops` frames without input, uniformly many.
        full_actions: all 18 actions of the joystick instead of those the game reacts to.
        max_frames: emulated frames after which an episode is cut, no-ops of the reset not counted.
        timeout_is_terminal: mark that cut as terminal too, as the reference does.

    Raises:
        ImportError: ale_py or Pillow is missing.
        ValueError: an unknown game, or a number out of range.
    """
    ale_py = _ale_py()
    _validate(size, repeat, sticky, noops, max_frames)
    if game not in atari_games():
        close = difflib.get_close_matches(str(game).lower(), atari_games(), 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else "wb.envs.atari_games() lists them"
        raise ValueError(f"unknown Atari game {game!r}; {hint}")
    return Atari(
        Machine(ale_py, game),
        size=size,
        gray=gray,
        repeat=repeat,
        sticky=sticky,
        noops=noops,
        full_actions=full_actions,
        max_frames=max_frames,
        timeout_is_terminal=timeout_is_terminal,
    )


@functools.cache
def atari_games() -> tuple[str, ...]:
    """The games that `atari` knows: the ROMs of ale_py that one player can play."""
    interface, roms = _ale_py().ALEInterface, _ale_py().roms
    names = sorted(roms.get_all_rom_ids())
    return tuple(name for name in names if interface.isSupportedROM(roms.get_rom_path(name)))


class Atari:
    """A game on a machine; built by `atari`, which explains the arguments.

    The randomness of an episode (no-ops, sticky actions) comes from the seed of its reset alone;
    the emulator itself has none. A few games (Assault, Beam Rider, Berzerk …) read memory that
    their own reset leaves as it was: their episodes also depend on what was played before, as on
    the real machine and in the reference. The state holds that memory too.
    """

    def __init__(
        self,
        machine: Any,
        *,
        size: int,
        gray: bool,
        repeat: int,
        sticky: float,
        noops: int,
        full_actions: bool,
        max_frames: int,
        timeout_is_terminal: bool,
    ) -> None:
        self._machine = machine
        self._codes = machine.legal_actions if full_actions else machine.minimal_actions
        self._size, self._gray, self._repeat = size, gray, repeat
        self._sticky, self._noops, self._max_frames = sticky, noops, max_frames
        self._timeout_is_terminal = timeout_is_terminal
        self._frames = np.zeros((_POOL, *machine.screen, 3), np.uint8)
        self._rng = np.random.Generator(np.random.PCG64(0))
        self._held = 0  # the joystick at the last emulated frame
        self._count = 0  # emulated frames since the reset
        self._over = True
        self.observation: Spaces = {"image": Image(size, size, 1 if gray else 3)}
        self.action: Actions = {"action": Discrete(len(self._codes))}

    def reset(self, seed: int) -> Step:
        """Begin an episode: the game's reset, then 0 … `noops` frames without input."""
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._machine.reset()
        for _ in range(self._rng.integers(self._noops + 1)):
            self._machine.act(0)
            if self._machine.over():
                self._machine.reset()
        self._machine.screen_into(self._frames[0])
        self._frames[1:] = self._frames[0]
        self._held, self._count, self._over = 0, 0, False
        return self._row(0.0, is_first=True)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do `action["action"]`, an index below the number of actions, for `repeat` frames."""
        code = self._code(int(action["action"]))
        reward, terminal, last = 0.0, False, False
        for frame in range(self._repeat):
            if not (self._sticky and self._rng.random() < self._sticky):
                self._held = code
            reward += self._machine.act(self._held)
            self._count += 1
            if frame >= self._repeat - _POOL:
                # A game that ends earlier in the repeat leaves the older frames where they are.
                self._frames[1:] = self._frames[:-1]
                self._machine.screen_into(self._frames[0])
            terminal = self._machine.over()
            last = terminal or self._count >= self._max_frames
            if last:
                break
        self._over = last
        terminal = terminal or (last and self._timeout_is_terminal)
        return self._row(reward, is_last=last, is_terminal=terminal)

    def _code(self, index: int) -> int:
        if self._over:
            raise ValueError(
                f"asked {self._machine.game} for a step, but no episode is under way; "
                f"reset(seed) begins one"
            )
        if not 0 <= index < len(self._codes):
            raise ValueError(
                f"action {index} of {self._machine.game}; it has {len(self._codes)} actions, "
                f"0 to {len(self._codes) - 1}"
            )
        return self._codes[index]

    def _row(self, reward: float, is_first=False, is_last=False, is_terminal=False) -> Step:
        image = preprocess(self._frames, self._size, self._gray)
        return Step({"image": image}, float(reward), is_first, is_last, is_terminal)

    def get_state(self) -> bytes:
        """Machine, frames, generator and counters as one bytes object (about 10 kB)."""
        values = {
            "game": self._machine.game,
            "rng": self._rng.bit_generator.state,
            "held": self._held,
            "count": self._count,
            "over": self._over,
        }
        return pack(values, {"frames": self._frames, **self._machine.save()})

    def set_state(self, state: bytes) -> None:
        """Continue exactly where `get_state()` was called, in this process or another.

        Raises:
            ValueError: the bytes are damaged or of another game.
            NotRestored: the emulator did not come back to the saved state (another ale_py?).
        """
        values, arrays = unpack(state)
        if values["game"] != self._machine.game:
            raise ValueError(
                f"asked {self._machine.game} to continue from a state of {values['game']}; "
                f"give a state that get_state() of {self._machine.game} returned"
            )
        self._over = True  # until the machine is back
        self._machine.load(arrays)
        self._frames = arrays["frames"]
        self._rng.bit_generator.state = values["rng"]
        self._held, self._count, self._over = values["held"], values["count"], values["over"]

    def close(self) -> None:
        """Nothing to release: the emulator goes with this object."""


def _ale_py() -> ModuleType:
    try:
        import ale_py
        import ale_py.roms
        import PIL.Image  # noqa: F401
    except ImportError as cause:
        raise ImportError(
            "wb.envs.atari needs the extra 'atari': pip install \"worldblocks[atari]\""
        ) from cause
    return ale_py


def _validate(size: int, repeat: int, sticky: float, noops: int, max_frames: int) -> None:
    lowest = {"size": (size, 1), "repeat": (repeat, 1), "noops": (noops, 0)}
    for name, (value, low) in {**lowest, "max_frames": (max_frames, 1)}.items():
        if value < low:
            raise ValueError(f"wb.envs.atari got {name}={value}; it takes {low} or more")
    if not 0 <= sticky < 1:
        raise ValueError(f"wb.envs.atari got sticky={sticky}; it takes a probability below 1")
