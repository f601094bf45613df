"""The command that adds an extra to this installation, for messages about a missing package."""

import importlib.metadata
import json
import re
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname


def extras_of(doc: str) -> list[str]:
    """The extras that the docstring of a recipe or a tool names in its line `Extras: ….`."""
    found = re.search(r"^Extras: ([\w, ]+)\.$", doc, re.MULTILINE)
    return found[1].split(", ") if found else []


def install(*extras: str) -> str:
    """`pip install …` with the extras, from where this package came.

    In a clone this is the clone. Elsewhere it is the wheel, folder or repository that pip
    recorded, and the name of the package if there is none or its file is gone.
    """
    wanted = ",".join(extras)
    if (Path(__file__).parents[2] / "pyproject.toml").is_file():
        return f'pip install -e ".[{wanted}]"'
    try:
        record = importlib.metadata.distribution("worldblocks").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        record = None
    origin = json.loads(record or "{}")
    url = origin.get("url", "")
    if url.startswith("file:") and not Path(url2pathname(urlparse(url).path)).exists():
        url = ""
    if url and (repository := origin.get("vcs_info")):
        url = f"{repository['vcs']}+{url}@{repository['commit_id']}"
    return f'pip install "worldblocks[{wanted}]{url and f" @ {url}"}"'
