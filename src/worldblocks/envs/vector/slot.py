"""One environment of a vector, and which episode it is in."""

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from worldblocks.envs.record import Episode, Step
from worldblocks.envs.vector.handle import Failed, Host
from worldblocks.envs.vector.reenact import ActionLog


class Seat:
    """Environment `index` of a vector: its host, its episode, and how far that has come.

    `log` holds the actions of the episode where the environment has no state of its own. Whoever
    meets its failure sets `lost`: it is in no episode until the next begins.
    """

    def __init__(self, host: Host, index: int, size: int) -> None:
        self.host, self._index, self._size = host, index, size
        self.episode, self.score, self.length = -1, 0.0, 0
        self.log: ActionLog | None = None
        self.lost = False

    def begin(self, seed: int) -> None:
        """Ask for the first row of the next episode; `seed` is the run's."""
        self.episode, self.lost = self.episode + 1, False
        self.score, self.length = 0.0, 0
        if self.log is not None:
            self.log.clear()
        self.host.ask("reset", self._episode_seed(seed))

    def act(self, action: np.ndarray) -> None:
        """Ask for the row that one flat action leads to."""
        if self.log is not None:
            self.log.append(action)
        self.host.ask("step", action)

    def answer(self, begins: bool) -> Step:
        """The row asked for; `begins`: by `begin`.

        Raises:
            Failed: there is none.
        """
        step: Step = self.host.answer()
        if not begins:
            self.score += step.reward
            self.length += 1
        return step

    def finished(self) -> Episode:
        """The episode, as it stands at its last row."""
        return Episode(self._index, self.score, self.length)

    def keep_log(self) -> None:
        """Keep the actions from here on, if the environment gives no state of its own."""
        self.log = None
        self.ask_state()
        self.log = ActionLog(self._size) if self.state() is None else None

    def ask_state(self) -> None:
        """Ask for the environment's state, if it has one."""
        if self.log is None and not self.lost:
            self.host.ask("get_state")

    def state(self) -> bytes | None:
        """The state asked for; None if it has none, or has failed: the next step meets that too."""
        if self.log is not None or self.lost:
            return None
        try:
            return self.host.answer()
        except Failed:
            return None

    def ask_back(
        self,
        state: bytes | None,
        actions: Float32[Tensor, "time action"] | None,
        row: Step,
        seed: int,
    ) -> str | None:
        """Ask for `row` again, `reenact`ing where there is no state; or say what is lost, if any.

        None: it was asked, and the answer says what is lost.
        """
        self.lost, self.log = state is None and actions is None, None
        if actions is not None:
            self.log = ActionLog(self._size)
            self.log.replace(actions.numpy())
        if row.is_last and state is None:
            return ""  # the next step resets: where it stood no longer matters
        if self.lost:
            return "had failed when this was saved"
        played = None if self.log is None else self.log.rows()
        patience = 1 if played is None else 1 + len(played)
        self.host.ask("restore", state, self._episode_seed(seed), played, row, patience=patience)
        return None

    def _episode_seed(self, seed: int) -> int:
        entropy = [seed, self._index, self.episode]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
