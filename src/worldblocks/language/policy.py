"""A language model as policy and value function."""

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, nn

from worldblocks._install import install
from worldblocks.language.backends.branches import reading_of, score_branches
from worldblocks.language.model import LanguageModel, require
from worldblocks.language.prompted import read_prompts
from worldblocks.typing import typed


class Judged(NamedTuple):
    """A logit for each action, and the value, of each state."""

    logits: Float32[Tensor, "batch action"]
    value: Float32[Tensor, " batch"]


class LanguagePolicy(nn.Module):
    """Action logits are log-probabilities of phrases; the value comes from the last hidden state.

        π(a | prompt) = exp(LP(a | prompt)) / Σ_b exp(LP(b | prompt)),    LP = Σ log p(token)

    The prompt is read once for all actions. The parameters are low-rank adapters (LoRA) of the
    attention's queries and values, and the value head; `state_dict` holds only these. Where the
    network has no `q_proj` and `v_proj`, the adapters are those that peft has for its architecture
    (in GPT-2 `c_attn`), else of all linear layers. The rest of the language model is not part of
    the module: it keeps its device and dtype, and loading a policy needs the same model. The
    adapters are added to `model` in place.

    Args:
        model: can `train`, such as `PackagedLM("smollm2")`.
        actions: the phrases that are scored, in order.
        rank: of the adapters; 0 trains all weights instead, as the paper does.
        units: width of the two hidden layers of the value head.
        per_token: take the mean over the tokens of a phrase. The paper takes the sum, which makes
            an untrained model strongly prefer the shortest phrase.

    Raises:
        MissingCapability: the model cannot be trained.
        ValueError: the network is not causal, or has no layer that takes an adapter.
        ImportError: peft is missing.

    Source: Carta et al. 2023 (arXiv:2302.02662), equations 1-2; Hu et al. 2021 (arXiv:2106.09685)
    for LoRA, with alpha = 2 rank.
    """

    def __init__(
        self,
        model: LanguageModel,
        actions: Sequence[str],
        *,
        rank: int,
        units: int = 1024,
        per_token: bool = False,
    ) -> None:
        super().__init__()
        require(model, "train")
        network: Any = getattr(model, "network")  # noqa: B009  (models that can train have it)
        self._branches, width = reading_of(network)
        if rank:
            _add_low_rank(network, rank)
        network.requires_grad_(not rank)
        trained = [(k, p) for k, p in network.named_parameters() if not rank or "lora_" in k]
        for _, parameter in trained:
            parameter.requires_grad_()
        self.adapter = nn.ParameterDict({k.replace(".", "/"): p for k, p in trained})
        layers = [nn.Linear(width, units), nn.Sigmoid(), nn.Linear(units, units), nn.Sigmoid()]
        self.value = nn.Sequential(*layers, nn.Linear(units, 1))
        self._read: Any = getattr(model, "tokens")  # noqa: B009  (as above)
        self._context: int | None = getattr(model, "context", None)
        self._network = (network,)  # in a tuple: not part of the module
        self._phrases, self._per_token = [f" {action}" for action in actions], per_token

    @typed
    def check(self, prompt: Shaped[Tensor, "env length"], history: int) -> None:
        """Refuse a history that makes prompts too long, before anything is played.

        Args:
            prompt: the observation `prompt` of `Prompted` at the first rows of episodes, with one
                observation each; later ones are taken to be as long.
            history: number of observations in a prompt.

        Raises:
            ValueError: prompts would outgrow the observation or the model's context.
        """
        action = max(self._phrases, key=len)
        firsts = read_prompts(prompt)
        grown = [x + (action + x[x.rfind(" \n Observation 0:") :]) * (history - 1) for x in firsts]
        size, most = max(len(text.encode()) for text in grown), prompt.shape[-1]
        if size > most:
            raise ValueError(
                f"--history {history}: prompts grow to about {size} bytes, and the observation has "
                f"{most}; use a smaller --history"
            )
        try:
            self._read([text + action for text in grown])
        except ValueError as cause:
            raise ValueError(
                f"--history {history}: the longest prompt with its action is too long for the "
                f"model ({cause}); use a smaller --history or a --model that reads more"
            ) from cause

    @typed
    def forward(self, prompts: list[str]) -> Judged:
        """Evaluate the states that the prompts describe; prompts may differ in length."""
        unique = list(dict.fromkeys(prompts))
        phrases = self._read(self._phrases)
        owner = [i for i in range(len(unique)) for _ in phrases]
        contexts = self._read(unique)
        most = max(map(len, contexts)) + max(map(len, phrases))
        if self._context and most > self._context:
            raise ValueError(
                f"the model reads {self._context} tokens, got {most} of a prompt and an action; "
                f"use a shorter history or a model that reads more"
            )
        found = score_branches(
            *self._network, contexts, phrases * len(unique), owner, branches=self._branches
        )
        rows = torch.tensor([unique.index(p) for p in prompts], device=found.log_prob.device)
        logits = found.log_prob.view(len(unique), len(phrases))
        if self._per_token:
            logits = logits / torch.tensor([len(row) for row in phrases], device=rows.device)
        value = self.value(found.hidden.float())[..., 0]
        return Judged(logits[rows], value[rows])


def _add_low_rank(network: nn.Module, rank: int) -> None:
    """Add LoRA adapters to the network in place; `LanguagePolicy` says to which layers."""
    try:
        peft = importlib.import_module("peft")
    except ImportError as cause:
        raise ImportError(
            f"wb.language.LanguagePolicy needs the extra 'llm': {install('llm')}"
        ) from cause
    config: Any = network.config
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(config.model_type)
    layers = {name.rpartition(".")[2] for name, _ in network.named_modules()}
    targets: Any = ["q_proj", "v_proj"]
    if layers.isdisjoint(targets):
        targets = "all-linear" if layers.isdisjoint(known or ()) else known
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, bias="none"
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fan_in_fan_out")  # GPT-2's Conv1D; peft sets it
            peft.inject_adapter_in_model(config, network)
    except ValueError as cause:
        raise ValueError(
            f"LanguagePolicy cannot add adapters of rank {rank} to {type(network).__name__}: peft "
            f"says {str(cause)[:200]!r}; rank=0 (--rank 0) trains all of its weights instead"
        ) from cause
    network.eval()
