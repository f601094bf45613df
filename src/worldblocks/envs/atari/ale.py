"""Atari games through the Arcade Learning Environment, with the reference's preprocessing."""

from typing import Any

import numpy as np

from worldblocks.envs.atari.games import atari_games, emulator, not_a_game
from worldblocks.envs.atari.image import preprocess
from worldblocks.envs.atari.machine import Machine
from worldblocks.envs.atari.watch import Recorder, check_render
from worldblocks.envs.errors import at_least_one, no_episode
from worldblocks.envs.named import suite
from worldblocks.envs.packing import pack, unpack
from worldblocks.envs.record import Step
from worldblocks.spaces import Actions, Discrete, Image, Spaces

_POOL = 2  # the image is the maximum over this many frames


@suite
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
    terminal_on_life_loss: bool = False,
    render: str = "",
) -> "Atari":
    """An Atari game as an `Environment`: observation `image`, action `action`.

    The defaults are those of Atari 100k. Preprocessing follows `embodied/envs/atari.py` of
    danijar/dreamerv3 (commit e3f0224); sticky actions are Machado et al. 2018, section 5.2.

    Args:
        game: ALE's name of the game: `pong`, `ms_pacman` … (`atari_games()` lists them).
        size: height and width of the image.
        gray: one channel instead of RGB.
        repeat: emulated frames per action; the image is the maximum over the last two.
        sticky: probability, at each emulated frame, of repeating the action of the frame before.
        noops: a reset starts with 0 to `noops` frames without input, drawn uniformly.
        full_actions: all 18 actions of the joystick instead of those the game reacts to.
        max_frames: time limit in emulated frames, not counting the no-ops of the reset.
        timeout_is_terminal: mark the time limit as terminal too, as the reference does.
        terminal_on_life_loss: end an episode, as terminal, where a life is lost. The next reset is
            that of the game, as in gymnasium.
        render: "window" shows the game as it is played, with a display; `folder/name.gif` writes
            each episode at full resolution, a picture a step, as `folder/name-0.gif`, `name-1.gif`
            …; "" neither. The numbers are the same.

    Raises:
        ImportError: ale_py or Pillow is missing, or ale_py is too old.
        ValueError: an unknown game, one for two players or without a ROM, or a number out of range.
        RuntimeError: a window without a display.
        OSError: the folder of the video cannot be written.
    """
    ale_py = emulator()
    at_least_one("wb.envs.atari", size=size, repeat=repeat, max_frames=max_frames)
    if noops < 0 or not 0 <= sticky < 1:
        raise ValueError(
            f"wb.envs.atari got noops={noops}, sticky={sticky}; it takes noops of 0 or more and a "
            f"probability below 1"
        )
    if game not in atari_games():
        raise not_a_game(game)
    check_render(render)
    return Atari(
        Machine(ale_py, game, window=render == "window"),
        size=size,
        gray=gray,
        repeat=repeat,
        sticky=sticky,
        noops=noops,
        full_actions=full_actions,
        max_frames=max_frames,
        timeout_is_terminal=timeout_is_terminal,
        terminal_on_life_loss=terminal_on_life_loss,
        video="" if render == "window" else render,
    )


class Atari:
    """An Atari game; built by `atari`, which explains the arguments.

    The randomness of an episode (no-ops, sticky actions) comes only from the seed of its reset; the
    emulator itself is deterministic. A few games (Assault, Beam Rider, Berzerk …) read memory that
    their own reset does not clear. Their episodes also depend on earlier ones, as on the real
    machine and in the reference. The state includes that memory.
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
        terminal_on_life_loss: bool = False,
        video: str = "",
    ) -> None:
        self._machine = machine
        self._codes = machine.legal_actions if full_actions else machine.minimal_actions
        self._size, self._gray, self._repeat = size, gray, repeat
        self._sticky, self._noops, self._max_frames = sticky, noops, max_frames
        self._timeout_is_terminal = timeout_is_terminal
        self._one_life, self._lives = terminal_on_life_loss, 0
        self._video = Recorder(video, repeat) if video else None
        self._frames = np.zeros((_POOL, *machine.screen, 3), np.uint8)
        self._rng = np.random.Generator(np.random.PCG64(0))
        self._held = 0  # joystick code at the last emulated frame
        self._count = 0  # emulated frames since the reset
        self._over = True
        self.observation: Spaces = {"image": Image(size, size, 1 if gray else 3)}
        self.action: Actions = {"action": Discrete(len(self._codes))}

    def reset(self, seed: int) -> Step:
        """Begin an episode: the game's reset, then 0 to `noops` frames without input."""
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._machine.reset()
        for _ in range(self._rng.integers(self._noops + 1)):
            self._machine.act(0)
            if self._machine.over():
                self._machine.reset()
        self._machine.screen_into(self._frames[0])
        self._frames[1:] = self._frames[0]
        self._held, self._count, self._over = 0, 0, False
        self._lives = self._machine.lives() if self._one_life else 0
        return self._row(0.0, is_first=True)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do `action["action"]`, an index below the number of actions, for `repeat` frames."""
        if self._over:
            raise no_episode(self._machine.game)
        index = int(action["action"])
        if not 0 <= index < len(self._codes):
            raise ValueError(
                f"action {index} of {self._machine.game}; it has {len(self._codes)} actions, "
                f"0 to {len(self._codes) - 1}"
            )
        reward, terminal, last = 0.0, False, False
        for frame in range(self._repeat):
            if not (self._sticky and self._rng.random() < self._sticky):
                self._held = self._codes[index]
            reward += self._machine.act(self._held)
            self._count += 1
            if frame >= self._repeat - _POOL:
                # If the game ends before these frames, the image keeps older ones.
                self._frames[1:] = self._frames[:-1]
                self._machine.screen_into(self._frames[0])
            terminal = self._machine.over() or self._lost_a_life()
            last = terminal or self._count >= self._max_frames
            if last:
                break
        self._over = last
        terminal = terminal or (last and self._timeout_is_terminal)
        return self._row(reward, is_last=last, is_terminal=terminal)

    def _lost_a_life(self) -> bool:
        before, self._lives = self._lives, self._machine.lives() if self._one_life else 0
        return self._lives < before

    def _row(self, reward: float, is_first=False, is_last=False, is_terminal=False) -> Step:
        image = preprocess(self._frames, self._size, self._gray)
        if self._video:
            self._video.add(self._frames.max(0), is_first, is_last)
        return Step({"image": image}, float(reward), is_first, is_last, is_terminal)

    def get_state(self) -> bytes:
        """Emulator, frames, generator and counters as one bytes object (about 10 kB)."""
        values = {
            "game": self._machine.game,
            "rng": self._rng.bit_generator.state,
            "held": self._held,
            "count": self._count,
            "over": self._over,
        }
        return pack(values, {"frames": self._frames, **self._machine.save()})

    def set_state(self, state: bytes) -> None:
        """Continue exactly from `get_state()`, in this process or another.

        Raises:
            ValueError: the bytes are damaged or of another game.
            NotRestored: the emulator did not return to the saved state (another ale_py?).
        """
        values, arrays = unpack(state)
        if values["game"] != self._machine.game:
            raise ValueError(
                f"asked {self._machine.game} to continue from a state of {values['game']}; "
                f"give a state that get_state() of {self._machine.game} returned"
            )
        self._over = True  # until the emulator is restored
        self._machine.load(arrays)
        self._frames = arrays["frames"]
        self._rng.bit_generator.state = values["rng"]
        self._held, self._count, self._over = values["held"], values["count"], values["over"]
        self._lives = self._machine.lives() if self._one_life else 0

    def close(self) -> None:
        """End the video; the emulator is freed with this object."""
        if self._video:
            self._video.close()
