"""The two networks of a latent."""

from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.layers import MLP, Linear, check_width


class PriorPosterior(nn.Module):
    """From the deterministic state, and from it and an embedding, to `out` numbers each.

    Args:
        deter, embed_dim: widths of the two inputs.
        out: width of what comes out of either.
        hidden: width of both networks.
        prior_layers, posterior_layers: their depths.
        absolute: let the second see the embedding alone.
        outscale: initial scale of the last kernels.
    """

    def __init__(
        self,
        *,
        deter: int,
        embed_dim: int,
        out: int,
        hidden: int,
        prior_layers: int,
        posterior_layers: int,
        absolute: bool,
        outscale: float,
    ) -> None:
        super().__init__()
        self.deter, self.embed_dim, self.absolute = deter, embed_dim, absolute
        seen = embed_dim if absolute else deter + embed_dim
        self.prior_mlp = MLP(deter, units=hidden, layers=prior_layers)
        self.prior_out = Linear(hidden, out, outscale=outscale)
        self.posterior_mlp = MLP(seen, units=hidden, layers=posterior_layers)
        self.posterior_out = Linear(hidden, out, outscale=outscale)

    def expect(self, deter: Float[Tensor, "*batch deter"]) -> Float[Tensor, "*batch out"]:
        """The first network."""
        return self.prior_out(self.prior_mlp(deter))

    def project(self, embed: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch hidden"]:
        """The second's first map on the embedding: independent of the state, so done at once."""
        check_width("embed", embed, self.embed_dim)
        linear = self.posterior_mlp[0].linear
        weight = linear.weight if self.absolute else linear.weight[:, self.deter :]  # type: ignore[index]
        return nn.functional.linear(embed, weight, linear.bias)  # type: ignore[arg-type]

    def infer(
        self,
        deter: Float[Tensor, "*batch deter"] | None,
        projected: Float[Tensor, "*batch hidden"],
    ) -> Float[Tensor, "*batch out"]:
        """The second network on what `project` gave; `deter` is not read if `absolute`."""
        first, *rest = self.posterior_mlp
        if not self.absolute:
            weight = first.linear.weight[:, : self.deter]  # type: ignore[index,union-attr]
            projected = projected + nn.functional.linear(deter, weight)  # type: ignore[arg-type]
        x = first.activate(projected)  # type: ignore[operator]
        for layer in rest:
            x = layer(x)
        return self.posterior_out(x)
