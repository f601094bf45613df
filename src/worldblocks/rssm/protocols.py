"""What a dynamics block, a core and a latent promise: write your own.

Everything takes the batch first. Zeros mean "nothing remembered": a reset masks a memory and a
latent to zeros, and a first row starts from them.
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldblocks.distributions import Output


@runtime_checkable
class AnyState(Protocol):
    """What heads, losses and imagination read of a state: a pytree of tensors, batch first."""

    @property
    def carry(self) -> Any:
        """What the next step takes."""
        ...

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic part, and the stochastic part flattened, in the dtype of the first."""
        ...

    def feature(self) -> Float[Tensor, "*batch feature"]:
        """Both parts, joined."""
        ...

    def flatten(self) -> Any:
        """Merge the first two axes, `batch time ... -> batch*time ...`."""
        ...

    def detach(self) -> Any:
        """The same state without its graph."""
        ...

    def light(self) -> Any:
        """The state as imagination keeps it: nothing but what heads and losses read."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """A part of the batch axes."""
        ...


class Dynamics(Protocol):
    """A dynamics block. A carry and a state are pytrees of tensors, batch first.

    Attributes:
        feature_dim: width of `state.feature()`.
        part_dims: widths of `state.parts()`, which a decoder takes.
        context: 1 if windows of replay continue from a stored carry; 0 if nothing is worth storing.
    """

    feature_dim: int
    part_dims: tuple[int, int]
    context: int

    def initial(self, batch: int) -> Any:
        """The carry before the first row of an episode."""
        ...

    def observe_step(
        self,
        carry: Any,
        embed: Float[Tensor, "batch embed"],
        prev_action: Float[Tensor, "batch action"],
        is_first: Bool[Tensor, " batch"],
    ) -> Any:
        """The state of one row, given its observation."""
        ...

    def observe(
        self,
        carry: Any,
        embed: Float[Tensor, "batch time embed"],
        prev_action: Float[Tensor, "batch time action"],
        is_first: Bool[Tensor, "batch time"],
    ) -> Any:
        """The states of a sequence, given its observations."""
        ...

    def imagine_step(self, carry: Any, action: Float[Tensor, "batch action"]) -> Any:
        """The state after an action, without an observation."""
        ...

    def prior(self, state: Any) -> Output:
        """The distribution of the latent before the observation was seen."""
        ...

    def posterior(self, state: Any) -> Output:
        """The distribution that the latent was drawn from."""
        ...

    def pack(self, carry: Any) -> Any:
        """A carry as replay stores it: a pytree of tensors."""
        ...

    def unpack(self, packed: Any) -> Any:
        """The carry that was packed, bit for bit."""
        ...


class Core(Protocol):
    """The deterministic transition `(memory, stoch, action) -> (deter, memory)`, a module.

    A core may also have

    * `scan(memory, stoch, projected, is_first) -> (deter, memory)`: `step` over a window, used
      where the posterior does not read `deter`. The memory that comes in is `batch ...`, of the row
      before the window; everything else is `batch time ...`, the memory after each row included.
      Row t starts from zeros where `is_first`; `stoch` and actions are masked already.
    * `pack(memory)` and `unpack(packed)`: the memory as replay stores it, with any leading axes,
      `*batch ...`. Without them it is stored as it is, in the dtype that `step` gives it.
    * `context = 0`, if windows of replay start from nothing. Then `RSSM.pack` gives `()`, `unpack`
      gives None, and `observe(None, ...)` starts from `initial`.

    Actions are masked before `project_action`, so a bias does no harm. Under autocast `deter` and
    the memory may have its dtype.

    Attributes:
        deter: width of the deterministic state.
    """

    deter: int

    def initial(self, batch: int) -> Any:
        """Nothing remembered: zeros, any pytree of tensors `batch ...`, one of floats at least."""
        ...

    def project_action(
        self, action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch hidden"]:
        """What depends on actions alone: computed for whole sequences in one call."""
        ...

    def step(
        self,
        memory: Any,
        stoch: Float[Tensor, "batch stoch"],
        projected: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch deter"], Any]:
        """The deterministic state after a projected action, and the memory from then on.

        A core whose memory is its deterministic state returns it twice.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the module."""
        ...


class Latent(Protocol):
    """The stochastic part, a module: a prior and a posterior network, and their distribution.

    `prior` and `posterior` return the parameters of the distribution: a tensor or a tuple of
    tensors with the batch axes first.

    Attributes:
        shape: of a latent: `(groups, classes)`, or `(size,)`.
        absolute: whether the posterior reads the embedding alone. It is then computed for a whole
            sequence at once, and `posterior` is given None in place of `deter`.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    absolute: bool

    def project(self, embed: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch hidden"]:
        """What depends on embeddings alone: computed for whole sequences in one call."""
        ...

    def noise(self, is_first: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time noise"]:
        """Noise for the samples of a sequence, drawn in the order of its steps."""
        ...

    def prior(self, deter: Float[Tensor, "*batch deter"]) -> Any:
        """Parameters before the observation is seen."""
        ...

    def posterior(
        self,
        deter: Float[Tensor, "*batch deter"] | None,
        projected: Float[Tensor, "*batch hidden"],
    ) -> Any:
        """Parameters given the observation; `projected` is the result of `project`."""
        ...

    def distribution(self, parameters: Any) -> Output:
        """The distribution with these parameters; a sample has the shape of a latent."""
        ...

    def pack(self, stoch: Float[Tensor, "..."]) -> Any:
        """A latent as replay stores it."""
        ...

    def unpack(self, packed: Any, like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The latent that was packed, in the dtype of `like`."""
        ...
