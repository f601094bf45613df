"""Language models behind one protocol, and rewards that they choose or write.

`python -m worldblocks.language` shows the reward that a sentence compiles to.
"""

from worldblocks.language.backends.cached import CachedLM
from worldblocks.language.backends.encoder import SentenceEncoder
from worldblocks.language.backends.endpoint import EndpointLM
from worldblocks.language.backends.local import TransformersLM
from worldblocks.language.backends.packaged import PackagedLM
from worldblocks.language.backends.untrained import untrained_llama
from worldblocks.language.display.belief import plot_belief
from worldblocks.language.display.explained import explain
from worldblocks.language.display.filmed import film, show
from worldblocks.language.model import (
    LanguageError,
    LanguageModel,
    Malformed,
    Messages,
    MissingCapability,
    MissingModel,
    NotCached,
    Refused,
    TimedOut,
    Unavailable,
    require,
)
from worldblocks.language.policy import Judged, LanguagePolicy
from worldblocks.language.posterior import Evidence, Returns, SpecPosterior, Successes
from worldblocks.language.prompted import BABYAI_COMMANDS, Prompted, glam_prompt, read_prompts
from worldblocks.language.proposal import Proposal, propose, settle
from worldblocks.language.ranking.baselines import Embedding, Exact, Random, Uniform, WordOverlap
from worldblocks.language.ranking.named import packaged_model, ranker
from worldblocks.language.ranking.ranking import Ranker, Ranking, fit_temperature
from worldblocks.language.ranking.selector import Selector
from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.expression import Expression, ExpressionError
from worldblocks.language.rewards.imagined import (
    CaptionHead,
    CaptionReward,
    HeadReward,
    SpecReward,
    caption_target,
)
from worldblocks.language.rewards.menu import (
    GoalMenu,
    Menu,
    TermMenu,
    body_menu,
    menu_of,
    sample_features,
)
from worldblocks.language.rewards.spec import RewardSpec, RewardTerm, reward_schema
from worldblocks.language.rewards.writer import Attempt, Writer
from worldblocks.language.search import RewardSearch

__all__ = [
    "BABYAI_COMMANDS",
    "Attempt",
    "CachedLM",
    "CaptionHead",
    "CaptionReward",
    "Embedding",
    "EndpointLM",
    "Evidence",
    "Exact",
    "Expression",
    "ExpressionError",
    "GoalMenu",
    "HeadReward",
    "Judged",
    "LanguageError",
    "LanguageModel",
    "LanguagePolicy",
    "Malformed",
    "Menu",
    "Messages",
    "MissingCapability",
    "MissingModel",
    "NotCached",
    "PackagedLM",
    "Prompted",
    "Proposal",
    "Random",
    "Ranker",
    "Ranking",
    "Refused",
    "Returns",
    "RewardFunction",
    "RewardSearch",
    "RewardSpec",
    "RewardTerm",
    "Selector",
    "SentenceEncoder",
    "SpecPosterior",
    "SpecReward",
    "Successes",
    "TermMenu",
    "TimedOut",
    "TransformersLM",
    "Unavailable",
    "Uniform",
    "WordOverlap",
    "Writer",
    "body_menu",
    "caption_target",
    "explain",
    "film",
    "fit_temperature",
    "glam_prompt",
    "menu_of",
    "packaged_model",
    "plot_belief",
    "propose",
    "ranker",
    "read_prompts",
    "require",
    "reward_schema",
    "sample_features",
    "settle",
    "show",
    "untrained_llama",
]
