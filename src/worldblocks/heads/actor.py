"""The head of a policy."""

from jaxtyping import Float
from torch import Tensor, nn

from worldblocks import distributions as dists
from worldblocks.layers import MLP, Linear, check_width
from worldblocks.spaces import Actions, Continuous, Discrete, check_spaces
from worldblocks.typing import typed


class ActorHead(nn.Module):
    """A policy for any action: one MLP, then an output part for each key of the action spaces.

    A discrete part is a categorical for each entry of its shape, a continuous part a
    `BoundedNormal`. The output is their `Joint` over flat `... action` vectors.

    Args:
        feature_dim: width of the feature vector.
        actions: action spaces by key.
        units, layers: width and depth of the MLP.
        unimix: uniform mixture of the discrete parts. The default is 0, because the released code
            configures 0.01 but does not apply it to its policy; its 2023 version did.
        outscale: scale of the initial kernels of the last layers.
        low, high: bounds on the standard deviation of the continuous parts.

    Source: DreamerV3, section "Actor learning" (3 layers).
    """

    def __init__(
        self,
        feature_dim: int,
        actions: Actions,
        *,
        units: int,
        layers: int,
        unimix: float = 0.0,
        outscale: float = 0.01,
        low: float = 0.1,
        high: float = 1.0,
    ) -> None:
        super().__init__()
        check_spaces("ActorHead", actions, (Continuous, Discrete))
        if not actions:
            raise ValueError("ActorHead needs at least one action key, got none")
        self.actions = {key: actions[key] for key in sorted(actions)}
        self.unimix, self.low, self.high = unimix, low, high
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.outs = nn.ModuleList()
        for space in self.actions.values():
            maps = 2 if isinstance(space, Continuous) else 1  # mean and std, or logits
            self.outs.append(
                nn.ModuleList(Linear(units, space.size, outscale=outscale) for _ in range(maps))
            )

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.Joint:
        """The policy at each feature vector."""
        check_width("feature", feature, self.mlp.in_features)
        hidden = self.mlp(feature)
        parts = {}
        for (key, space), maps in zip(self.actions.items(), self.outs, strict=True):
            raw = [out(hidden) for out in maps]  # type: ignore[union-attr]
            parts[key] = self._part(space, raw)
        return dists.Joint(parts)

    def _part(self, space: Continuous | Discrete, raw: list[Tensor]) -> dists.Output:
        raw = [x.unflatten(-1, (*space.shape, -1)) for x in raw]
        if isinstance(space, Discrete):
            return dists.OneHot(raw[0], unimix=self.unimix, event=len(space.shape))
        mean, std = (x.squeeze(-1) for x in raw)
        return dists.BoundedNormal(mean, std, low=self.low, high=self.high, event=len(space.shape))
