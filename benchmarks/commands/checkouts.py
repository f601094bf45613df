"""Commits of this repository, each in a folder of its own for as long as it is measured."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.jobs import ROOT


def git(repo: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What git does there."""
    return subprocess.run(
        ["git", "-C", str(repo), *words], capture_output=True, text=True, check=False
    )


def resolve(name: str, repo: Path = ROOT) -> str:
    """The hash of a commit.

    Raises:
        ValueError: there is no such commit.
    """
    found = git(repo, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise ValueError(
            f"no commit {name!r} in {repo}; give a hash, a tag or a branch, such as HEAD~1"
        )
    return found.stdout.strip()


@contextlib.contextmanager
def checkout(name: str, repo: Path = ROOT) -> Iterator[Path]:
    """The files of a commit.

    Raises:
        ValueError: there is no such commit, or git cannot check it out.
    """
    commit = resolve(name, repo)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        tree = Path(folder) / commit[:12]
        made = git(repo, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        if made.returncode:
            raise ValueError(f"{name} could not be checked out of {repo}: {made.stderr.strip()}")
        try:
            yield tree
        finally:
            git(repo, "worktree", "remove", "--force", str(tree))
