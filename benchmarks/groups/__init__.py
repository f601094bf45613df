"""The groups of cases, in the order in which they are measured."""

from benchmarks.groups.group import Group
from benchmarks.groups.imports import IMPORTS
from benchmarks.groups.replay import REPLAY
from benchmarks.groups.returns import RETURNS
from benchmarks.groups.rssm import RSSM
from benchmarks.groups.update import UPDATE

GROUPS = {group.name: group for group in (UPDATE, RSSM, RETURNS, REPLAY, IMPORTS)}

__all__ = ["GROUPS", "Group", "chosen"]


def chosen(only: str) -> list[Group]:
    """The groups named in `a,b`, all of them where nothing is named."""
    names = [name.strip() for name in only.split(",")] if only else list(GROUPS)
    if strange := [name for name in names if name not in GROUPS]:
        raise ValueError(f"--only names {', '.join(strange)}; groups are {', '.join(GROUPS)}")
    return [GROUPS[name] for name in names]
