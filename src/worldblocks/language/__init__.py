"""Language models behind one protocol, and rewards that are chosen or written by them.

`python -m worldblocks.language` shows what a sentence compiles to.
"""

from worldblocks.language.baselines import Embedding, Random, WordOverlap
from worldblocks.language.cached import CachedLM
from worldblocks.language.compiled import RewardFunction
from worldblocks.language.endpoint import EndpointLM
from worldblocks.language.expression import Expression, ExpressionError
from worldblocks.language.filmed import film, show
from worldblocks.language.imagined import (
    CaptionHead,
    CaptionReward,
    HeadReward,
    SpecReward,
    caption_target,
)
from worldblocks.language.local import TransformersLM
from worldblocks.language.menu import GoalMenu, Menu, TermMenu, body_menu, sample_features
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
from worldblocks.language.packaged import PackagedLM
from worldblocks.language.picture import plot_belief
from worldblocks.language.policy import Judged, LanguagePolicy
from worldblocks.language.posterior import Evidence, Returns, SpecPosterior, Successes
from worldblocks.language.proposal import Proposal, propose
from worldblocks.language.rankers import Exact, Uniform, packaged_model, ranker
from worldblocks.language.reward import RewardSpec, RewardTerm, reward_schema
from worldblocks.language.search import RewardSearch
from worldblocks.language.selector import Ranker, Ranking, Selector, fit_temperature
from worldblocks.language.sentences import SentenceEncoder
from worldblocks.language.shown import explain, menu_of, settle
from worldblocks.language.spoken import BABYAI_COMMANDS, Prompted, glam_prompt, read_prompts
from worldblocks.language.untrained import untrained_llama
from worldblocks.language.writer import Attempt, Writer

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
