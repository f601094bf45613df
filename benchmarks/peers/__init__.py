"""Other libraries, one file each; the agent that torchrl lacks is joined in `torchrl_agent`.

A worker imports one of them under the interpreter of that library; nothing else does. The code of a
checkout is imported from where it lies, never copied.
"""

import subprocess
import sys


def use(repo: str) -> str:
    """Make the code of a checkout importable; its commit, or unknown without history."""
    if repo not in sys.path:
        sys.path.insert(0, repo)
    command = ["git", "-C", repo, "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown commit"
