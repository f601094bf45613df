"""Checkouts of other projects."""

import subprocess


def commit(repo: str) -> str:
    """Of a checkout; unknown where it has no history."""
    command = ["git", "-C", repo, "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown commit"
