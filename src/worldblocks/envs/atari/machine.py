"""The Atari emulator: deterministic, silent, and exactly restorable."""

import math
from types import ModuleType
from typing import Any

import numpy as np

from worldblocks.envs.record import NotRestored

_RESET = 255  # stands for a reset in the log, next to the 18 joystick codes
_LOG = 64  # emulated frames from one anchor to the next
_TRIES = 12
_SLACK = 16  # bytes of the emulator's state that may differ after a replay


class Machine:
    """`ale_py.ALEInterface` with one game loaded.

    Randomness: ALE's own sticky actions are off, because ALE keeps the last action outside the
    state that it saves. The caller of `act` implements them. The option must be set *before* the
    ROM is loaded: a later call does nothing, and ALE's default is 0.25.

    State: ALE 0.12 does not save one flag of the video chip (whether the frame is unfinished). If
    the flag differs, Q*bert and Tetris are lost in the next frame. Therefore `save` stores an
    earlier state, the anchor, and the inputs since then. `load` replays them and compares the
    result with the state at the time of saving. If they differ, it runs the emulator a little,
    which changes the flag, and tries again. A wrong flag changes dozens of bytes. A few bytes may
    differ because ALE does not restore all that it saves (a clock of Pitfall II is rounded to 1e-8,
    two variables of Miniature Golf are lost).
    """

    def __init__(self, ale_py: ModuleType, game: str, window: bool = False) -> None:
        self.game = game
        self._state_type = ale_py.ALEState
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        ale = ale_py.ALEInterface()
        ale.setInt("random_seed", 0)
        ale.setFloat("repeat_action_probability", 0.0)
        ale.setBool("display_screen", window)
        ale.loadROM(ale_py.roms.get_rom_path(game))
        self._ale: Any = ale
        self.legal_actions = [action.value for action in ale.getLegalActionSet()]
        self.minimal_actions = [action.value for action in ale.getMinimalActionSet()]
        self.screen: tuple[int, int] = tuple(ale.getScreenDims())
        self._anchor, self._log = self._now(), bytearray()
        self._stirs = False

    def reset(self) -> None:
        """The game's own reset, which may leave some memory as it was."""
        self._do(_RESET)

    def act(self, code: int) -> int:
        """Emulate one frame with the joystick at `code`; returns the reward."""
        return self._do(code)

    def over(self) -> bool:
        """Whether the game has ended."""
        return self._ale.game_over()

    def lives(self) -> int:
        """Lives that are left; 0 in games without lives."""
        return self._ale.lives()

    def screen_into(self, frame: np.ndarray) -> None:
        """Write the RGB screen into a `height width 3` uint8 array."""
        self._ale.getScreenRGB(frame)

    def save(self) -> dict[str, np.ndarray]:
        """The state as uint8 arrays."""
        parts = {"anchor": self._anchor, "log": self._log, "now": self._now()}
        return {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Return to a saved state.

        Raises:
            NotRestored: the emulator does not reach the saved state.
        """
        anchor, log, now = (state[name].tobytes() for name in ("anchor", "log", "now"))
        for slack in [0] * _TRIES + [_SLACK]:
            if self._replay(anchor, log, now) <= slack:
                self._anchor, self._log = anchor, bytearray(log)
                return
            self._stir()
        self._ale.reset_game()
        self._anchor, self._log = self._now(), bytearray()
        raise NotRestored(
            f"asked to continue {self.game} from a saved state of the emulator, which it did not "
            f"come back to; the version of ale_py that saved it would"
        )

    def _do(self, code: int) -> int:
        if len(self._log) >= _LOG:
            self._anchor, self._log = self._now(), bytearray()
        self._log.append(code)
        return self._play(code)

    def _play(self, code: int) -> int:
        if code == _RESET:
            self._ale.reset_game()
            return 0
        return self._ale.act(code)

    def _now(self) -> bytes:
        return self._ale.cloneState(include_rng=True).serialize()

    def _replay(self, anchor: bytes, log: bytes, now: bytes) -> float:
        """Play from the anchor; returns the number of bytes that differ from `now`."""
        try:
            self._ale.restoreState(self._state_type(anchor))
        except (RuntimeError, SystemError):  # what ale_py raises for bytes it cannot read
            return math.inf
        for code in log:
            self._play(code)
        arrived = self._now()
        if len(arrived) != len(now):
            return math.inf
        return sum(one != other for one, other in zip(arrived, now, strict=True))

    def _stir(self) -> None:
        """Change the flag, by one more frame or by a reset, in turn."""
        self._stirs = not self._stirs
        if self._stirs:
            self._ale.reset_game()
        self._ale.act(0)
