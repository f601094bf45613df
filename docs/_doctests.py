"""A Griffe extension: doctests anywhere in a docstring are code, not Markdown quotes."""

import re
from typing import Any

import griffe

# A prompt line and what follows it up to the next blank line, at any indentation.
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Put each run of doctest lines into a fenced block."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring before its sections are parsed."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
