"""Named choices of a core and a latent."""

from torch import nn

from worldblocks.rssm.cores import GRU, BlockGRU
from worldblocks.rssm.latents import CategoricalLatent, GaussianLatent
from worldblocks.rssm.model import RSSM


def dreamer_rssm(
    *,
    embed_dim: int,
    action_dim: int,
    deter: int,
    hidden: int,
    groups: int,
    classes: int,
    blocks: int,
    unimix: float = 0.01,
    core_layers: int = 1,
    prior_layers: int = 2,
    posterior_layers: int = 1,
    absolute: bool = False,
    recompute: int = 0,
) -> RSSM:
    """The RSSM of DreamerV3's released code: a block GRU and categorical latents.

    >>> sizes = {"deter": 32, "hidden": 16, "groups": 4, "classes": 5, "blocks": 8}
    >>> dreamer_rssm(embed_dim=7, action_dim=3, **sizes).feature_dim
    52
    """
    core = BlockGRU(
        deter=deter,
        stoch=groups * classes,
        action_dim=action_dim,
        hidden=hidden,
        blocks=blocks,
        layers=core_layers,
    )
    latent = CategoricalLatent(
        deter=deter,
        embed_dim=embed_dim,
        groups=groups,
        classes=classes,
        hidden=hidden,
        prior_layers=prior_layers,
        posterior_layers=posterior_layers,
        unimix=unimix,
        absolute=absolute,
    )
    return RSSM(core, latent, recompute=recompute)


def gru_rssm(
    *,
    embed_dim: int,
    action_dim: int,
    deter: int,
    hidden: int,
    groups: int,
    classes: int,
    unimix: float = 0.01,
    norm: nn.Module | None = None,
    prior_layers: int = 1,
    posterior_layers: int = 1,
    absolute: bool = False,
    recompute: int = 0,
) -> RSSM:
    """The RSSM of DreamerV2 and of DreamerV3's first release: a GRU and categorical latents.

    `unimix` is DreamerV3's, 0 DreamerV2's; `norm` as in `GRU`.

    >>> sizes = {"deter": 32, "hidden": 16, "groups": 4, "classes": 5}
    >>> gru_rssm(embed_dim=7, action_dim=3, **sizes).feature_dim
    52
    """
    core = GRU(deter=deter, stoch=groups * classes, action_dim=action_dim, hidden=hidden, norm=norm)
    latent = CategoricalLatent(
        deter=deter,
        embed_dim=embed_dim,
        groups=groups,
        classes=classes,
        hidden=hidden,
        prior_layers=prior_layers,
        posterior_layers=posterior_layers,
        unimix=unimix,
        absolute=absolute,
    )
    return RSSM(core, latent, recompute=recompute)


def gaussian_rssm(
    *,
    embed_dim: int,
    action_dim: int,
    deter: int,
    hidden: int,
    stoch: int,
    min_std: float = 0.1,
    norm: nn.Module | None = None,
    prior_layers: int = 1,
    posterior_layers: int = 1,
    absolute: bool = False,
    recompute: int = 0,
) -> RSSM:
    """The RSSM of PlaNet and DreamerV1: a GRU and Gaussian latents (`stoch` 30 in both papers).

    `norm` as in `GRU`.

    >>> sizes = {"deter": 32, "hidden": 16, "stoch": 30}
    >>> gaussian_rssm(embed_dim=7, action_dim=3, **sizes).feature_dim
    62
    """
    core = GRU(deter=deter, stoch=stoch, action_dim=action_dim, hidden=hidden, norm=norm)
    latent = GaussianLatent(
        deter=deter,
        embed_dim=embed_dim,
        size=stoch,
        hidden=hidden,
        prior_layers=prior_layers,
        posterior_layers=posterior_layers,
        min_std=min_std,
        absolute=absolute,
    )
    return RSSM(core, latent, recompute=recompute)
