"""A hook of mkdocs: the build fails where mkdocstrings leaves out a public name."""

import importlib
import re
import zlib
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

import worldblocks

PAGES = Path(__file__).parent / "blocks"


def on_post_build(config: Any) -> None:
    """Compare the inventory of the site with the names of each module that has a page."""
    inventory = (Path(config.site_dir) / "objects.inv").read_bytes()
    lines = zlib.decompress(inventory.split(b"\n", 4)[4]).decode().splitlines()
    missing = absent({line.split()[0] for line in lines})
    if missing:
        raise PluginError(f"no docstring, so not in the documentation: {', '.join(missing)}")


def absent(rendered: set[str]) -> list[str]:
    """Public names that are not among the rendered ones, in whatever file they are."""
    modules = [name for name in worldblocks.__all__ if (PAGES / f"{name}.md").exists()]
    return [
        f"{module}.{name}"
        for module in modules
        for name in public(module)
        if not any(re.fullmatch(rf"worldblocks\.{module}\.([a-z_]+\.)*{name}", x) for x in rendered)
    ]


def public(module: str) -> list[str]:
    """What `__all__` says, or what is defined there without underscore."""
    found = importlib.import_module(f"worldblocks.{module}")
    defined = [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == found.__name__
    ]
    return getattr(found, "__all__", defined)
