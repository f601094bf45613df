"""What a core and a latent promise, and what of a carry and a state is read: write your own.

An `RSSM` asks for nothing more. Carries and states are NamedTuples of tensors, annotated with their
shapes (`*batch` for whatever batch axes they have): the annotations are checked at every door.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldblocks.distributions import Output


@runtime_checkable
class AnyCarry(Protocol):
    """What a step takes: a NamedTuple of tensors, zeros before the first row of an episode."""

    @property
    def deter(self) -> Float[Tensor, "*batch deter"]:
        """What the core has accumulated."""
        ...

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic part, and the stochastic part flattened."""
        ...

    def detach(self) -> Self:
        """The same carry without its history."""
        ...


class Acting(NamedTuple):
    """What an agent that acts keeps from one row to the next.

    Attributes:
        dynamics: the carry of its dynamics block at the last row.
        prev_action: the action chosen there, which leads to the next row; zeros before the first.
    """

    dynamics: Any
    prev_action: Float[Tensor, "env action"]


@runtime_checkable
class AnyState(Protocol):
    """What heads and losses read: a NamedTuple of a carry and what its latent came from."""

    @property
    def deter(self) -> Float[Tensor, "*batch deter"]:
        """What the core has accumulated."""
        ...

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

    def flatten(self) -> Self:
        """Merge the first two axes, `batch time ... -> batch*time ...`."""
        ...

    def detach(self) -> Self:
        """The same state without its history."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """A field by its number; or, by anything else that indexes, a part of the batch axes."""
        ...


C = TypeVar("C", bound=AnyCarry)
S = TypeVar("S", bound=AnyState)


class Core(Protocol):
    """The deterministic transition `(deter, stoch, action) -> deter`, a module in two halves.

    Attributes:
        deter: width of the state.
    """

    deter: int

    def project_action(
        self, action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch hidden"]:
        """What is made of actions alone: whole sequences at once, before the loop."""
        ...

    def step(
        self,
        deter: Float[Tensor, "batch deter"],
        stoch: Float[Tensor, "batch stoch"],
        projected: Float[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch deter"]:
        """The state after an action, projected, was taken in (`deter`, `stoch`)."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the module; a new carry is made where they are."""
        ...


class Latent(Protocol[C, S]):
    """The stochastic part, a module: two networks, the distribution they parametrise, a carry.

    What `prior` and `posterior` return is the latent's own affair (logits, or a mean and a
    standard deviation): a tensor or a tuple of tensors with the batch axes first.

    Attributes:
        size: width of the flattened latent.
        absolute: whether the posterior sees the embedding alone. It is then computed for a whole
            sequence at once, and `posterior` is given None in place of `deter`.
    """

    @property
    def size(self) -> int: ...

    absolute: bool

    def initial(self, deter: Float[Tensor, "*batch deter"]) -> C:
        """The carry before the first row, `deter` being zeros."""
        ...

    def project(self, embed: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch hidden"]:
        """What the posterior makes of embeddings alone: whole sequences at once."""
        ...

    def noise(self, is_first: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time stoch"]:
        """What the samples of a sequence are drawn by, in the order of its steps."""
        ...

    def prior(self, deter: Float[Tensor, "*batch deter"]) -> Any:
        """Parameters of what is expected before the observation is seen."""
        ...

    def posterior(
        self,
        deter: Float[Tensor, "*batch deter"] | None,
        projected: Float[Tensor, "*batch hidden"],
    ) -> Any:
        """Parameters given the observation, whose embedding has passed `project`."""
        ...

    def distribution(self, parameters: Any) -> Output:
        """The distribution of parameters, with as many event axes as a latent has."""
        ...

    def sample(
        self, parameters: Any, noise: Float[Tensor, "*batch stoch"] | None = None
    ) -> Float[Tensor, "..."]:
        """A latent drawn from parameters, by `noise` where it is given."""
        ...

    def state(
        self,
        deter: Float[Tensor, "*batch deter"],
        stoch: Float[Tensor, "..."],
        parameters: Any,
    ) -> S:
        """A state of the deterministic part, a sample, and what it was drawn from."""
        ...

    def drawn_from(self, state: S) -> Output:
        """The distribution that the latent of a state was drawn from."""
        ...

    def pack(self, carry: C) -> Any:
        """A carry as replay stores it."""
        ...

    def unpack(self, packed: Any) -> C:
        """The carry that was packed, exactly."""
        ...
