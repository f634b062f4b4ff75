"""Python's own documentation of its language, which the standard library carries as ``pydoc_data.topics``.

Real English prose on every machine without a download: 79 to 84 topics with 465,000 to 511,000
characters, depending on the version of Python.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

from engine.text.errors import TextError


def topics() -> list[tuple[str, str]]:
    """Name and text of each topic, sorted by name.

    Raises:
        TextError: this Python was installed without its documentation.
    """
    try:
        from pydoc_data.topics import topics as found
    except ImportError:
        raise TextError(
            f"This Python {platform.python_version()} has no pydoc_data, so python-docs is not there; "
            "choose another text or install the complete standard library."
        ) from None
    return sorted(found.items())


def documents() -> Iterator[str]:
    """One document per topic, in the order of their names."""
    for _, text in topics():
        yield text
