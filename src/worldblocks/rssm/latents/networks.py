"""The two networks of a latent."""

from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.layers import MLP, Linear, check_width


class PriorPosterior(nn.Module):
    """A prior network on the deterministic state, a posterior network that also reads an embedding.

    Args:
        deter, embed_dim: widths of the two inputs.
        out: width of both outputs.
        hidden: width of both networks.
        prior_layers, posterior_layers: their depths.
        absolute: the posterior reads the embedding alone.
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

    def prior_output(self, deter: Float[Tensor, "*batch deter"]) -> Float[Tensor, "*batch out"]:
        """Output of the prior network."""
        return self.prior_out(self.prior_mlp(deter))

    def project(self, embed: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch hidden"]:
        """First posterior layer on the embedding only: whole sequences in one call."""
        check_width("embed", embed, self.embed_dim)
        linear = self.posterior_mlp[0].linear
        weight = linear.weight if self.absolute else linear.weight[:, self.deter :]  # type: ignore[index]
        return nn.functional.linear(embed, weight, linear.bias)  # type: ignore[arg-type]

    def posterior_output(
        self,
        deter: Float[Tensor, "*batch deter"] | None,
        projected: Float[Tensor, "*batch hidden"],
    ) -> Float[Tensor, "*batch out"]:
        """Output of the posterior network on a projected embedding; `absolute` ignores `deter`."""
        first, *rest = self.posterior_mlp
        if not self.absolute:
            weight = first.linear.weight[:, : self.deter]  # type: ignore[index,union-attr]
            projected = projected + nn.functional.linear(deter, weight)  # type: ignore[arg-type]
        x = first.activate(projected)  # type: ignore[operator]
        for layer in rest:
            x = layer(x)
        return self.posterior_out(x)
