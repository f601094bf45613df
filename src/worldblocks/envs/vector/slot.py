"""One environment of a vector, and the episode it is in."""

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from worldblocks.envs.record import Episode, Step, check_step
from worldblocks.envs.vector.handle import Failed, Handle
from worldblocks.envs.vector.reenact import ActionLog


class Slot:
    """Environment `index` of a vector: its handle, and the number, score and length of its episode.

    `log` holds the actions of the episode if the environment has no state of its own. `lost` is
    set by the caller after a failure; the environment is then in no episode until `begin`.
    """

    def __init__(self, handle: Handle, index: int, size: int) -> None:
        self.handle, self._index, self._size = handle, index, size
        self.episode, self.score, self.length = -1, 0.0, 0
        self.log: ActionLog | None = None
        self.lost = False

    def begin(self, seed: int) -> None:
        """Ask for the first row of the next episode; `seed` is the seed of the run."""
        self.episode, self.lost = self.episode + 1, False
        self.score, self.length = 0.0, 0
        if self.log is not None:
            self.log.clear()
        self.handle.ask("reset", self._episode_seed(seed))

    def act(self, action: np.ndarray) -> None:
        """Ask for the row after one flat action."""
        if self.log is not None:
            self.log.append(action)
        self.handle.ask("step", action)

    def answer(self, begins: bool, taken: int) -> Step:
        """Wait for the row; `begins` if `begin` asked for it, after `taken` rows of the vector.

        Raises:
            Failed: the environment gave no row.
            ValueError: the row does not match its space, or is not finite.
        """
        step: Step = self.handle.answer()
        where = f"environment {self._index} at step {taken}"
        check_step(where, step, self.handle.spaces[0], begins)
        if not begins:
            self.score += step.reward
            self.length += 1
        return step

    def finished(self) -> Episode:
        """The episode, after its last row."""
        return Episode(self._index, self.score, self.length)

    def keep_log(self) -> None:
        """Record the actions from here on if the environment has no state of its own."""
        self.log = None
        self.ask_state()
        self.log = ActionLog(self._size) if self.state() is None else None

    def ask_state(self) -> None:
        """Ask for the environment's state if it has one."""
        if self.log is None and not self.lost:
            self.handle.ask("get_state")

    def state(self) -> bytes | None:
        """Wait for the state; None if there is none or the environment failed.

        A failure is not reported here: the next step meets it again.
        """
        if self.log is not None or self.lost:
            return None
        try:
            return self.handle.answer()
        except Failed:
            return None

    def ask_restore(
        self,
        state: bytes | None,
        actions: Float32[Tensor, "time action"] | None,
        row: Step,
        seed: int,
    ) -> str | None:
        """Ask to come back to `row`, by `state` or by repeating `actions`.

        Returns None if it was asked: the answer of the handle is the error then. Otherwise the
        error, or "" if there is nothing to restore.
        """
        self.lost, self.log = state is None and actions is None, None
        if actions is not None:
            self.log = ActionLog(self._size)
            self.log.replace(actions.numpy())
        if row.is_last and state is None:
            return ""  # the next step resets
        if self.lost:
            return "had failed when this was saved"
        played = None if self.log is None else self.log.rows()
        timeouts = 1 if played is None else 1 + len(played)
        arguments = (state, self._episode_seed(seed), played, row)
        self.handle.ask("restore", *arguments, timeouts=timeouts)
        return None

    def _episode_seed(self, seed: int) -> int:
        entropy = [seed, self._index, self.episode]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
