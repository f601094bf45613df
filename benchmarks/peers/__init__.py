"""Other libraries, one file each. `torchrl_agent` is an agent from parts of torchrl.

Only a worker imports one of them, in the interpreter of that library. The code of a checkout is
imported in place, never copied.
"""

import subprocess
import sys


def use(repo: str) -> str:
    """Make the code of a checkout importable; its commit, if it has a history."""
    if repo not in sys.path:
        sys.path.insert(0, repo)
    command = ["git", "-C", repo, "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown commit"
