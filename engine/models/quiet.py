"""Keeps transformers' own progress bars, log lines and warnings off the streams while a model is opened."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_patching = threading.Lock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block transformers shows no bars and logs errors only, and its warnings are dropped.

    What matters to a person (what is missing, what does not fit) is checked by the callers and said in sentences.
    """
    from transformers.utils import logging as of_transformers

    logging: Any = of_transformers  # its functions carry no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def gguf_progress(report: Callable[[int, int], None]) -> Iterator[None]:
    """Within the block ``report(done, total)`` is called for each tensor that transformers de-quantises.

    What it raises ends the loading: that is how a conversion is cancelled. transformers has no
    argument for this, so its progress bar is replaced for the duration.
    """
    from transformers import modeling_gguf_pytorch_utils

    loader: Any = modeling_gguf_pytorch_utils

    def bar(items: Iterable[Any], *args: Any, **options: Any) -> Iterator[Any]:
        listed = list(items)
        for number, item in enumerate(listed):
            report(number, len(listed))
            yield item

    with _patching:
        before = getattr(loader, "tqdm", None)
        loader.tqdm = bar
        try:
            yield
        finally:
            loader.tqdm = before
