"""Is this world model any good? Open-loop predictions and checks on held-out episodes.

Works on any agent that has an `encoder`, a dynamics block `rssm`, a `decoder`, a `reward` head and
a `value` head. `recipes/diagnose.py RUN` writes a page about a whole run.
"""

from worldblocks.diagnose.comparisons import (
    image_checks,
    realised_return,
    reward_check,
    value_check,
    vector_checks,
)
from worldblocks.diagnose.diagnosis import FEWEST, diagnose, examine
from worldblocks.diagnose.finding import Figure, Finding, Section
from worldblocks.diagnose.held_out import judge, report, task_reports, windows
from worldblocks.diagnose.page.document import summary, verdicts, write_page
from worldblocks.diagnose.rollouts import (
    CONTEXT,
    LENGTH,
    SAMPLES,
    STEPS,
    WINDOWS,
    Agent,
    open_loop,
    open_loop_video,
)

__all__ = [
    "CONTEXT",
    "FEWEST",
    "LENGTH",
    "SAMPLES",
    "STEPS",
    "WINDOWS",
    "Agent",
    "Figure",
    "Finding",
    "Section",
    "diagnose",
    "examine",
    "image_checks",
    "judge",
    "open_loop",
    "open_loop_video",
    "realised_return",
    "report",
    "reward_check",
    "summary",
    "task_reports",
    "value_check",
    "vector_checks",
    "verdicts",
    "windows",
    "write_page",
]
