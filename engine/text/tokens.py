"""`contexts`: the first distinct tokens of a corpus, packed into contexts for a model, cached on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from engine import files, places
from engine.text.corpora import Corpus
from engine.text.errors import TextError
from engine.text.packing import pack
from engine.text.references import BUILT_IN
from engine.text.toys import ToyData

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]

FORM = 1  # of the cached files; another number means that they are made anew
UNKNOWN_SHARE = 0.05  # of a text's tokens that a vocabulary may lack
TOGETHER = 64  # pieces tokenised at once
ROWS = 256  # contexts written at once
CACHE_LIMIT = 4 << 30  # bytes of cached tokens; the longest unused go first
PADDING, SPECIAL, TEXT = 0, 1, 2  # what a position holds


class TokenisingModel(Protocol):
    """What `contexts` needs of `engine.models.opening.OpenModel`."""

    @property
    def reference(self) -> str: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def facts(self) -> Any: ...


@dataclass(frozen=True)
class Contexts:
    """Packed tokens.

    Attributes:
        ids: (contexts, context) int32, mapped from disk and read-only.
        counted: (contexts, context) bool, likewise; False where BOS, another special token or padding stands,
            and behind the last token asked for.
        facts: ``tokens`` of the text taken, ``asked``, ``contexts``, ``context``, ``context_asked``, ``documents``
            begun, ``unknown`` tokens and ``unknown_share``, ``bos`` (the token in front or None), ``text`` (the
            corpus' description); for a toy's data ``predicted``, whether its tokens are what the toy predicts.
    """

    ids: Array
    counted: Array
    facts: dict[str, Any] = field(default_factory=dict)


def contexts(
    corpus: Corpus,
    model: TokenisingModel,
    *,
    tokens: int,
    context: int,
    prepend_bos: bool = True,
    include_special: bool = False,
    run: Run | None = None,
) -> Contexts:
    """The first ``tokens`` tokens of ``corpus`` in contexts, each token once.

    Documents follow each other with the tokenizer's end token between them; a context begins with
    BOS where ``prepend_bos``, and, in an endless text, with the beginning of a document.
    The last context is padded on the right.

    Args:
        tokens: distinct tokens to take, special tokens not among them; fewer where the text ends.
        context: tokens per context, cut to the model's own.
        prepend_bos: put the tokenizer's beginning-of-sequence token in front of each context.
        include_special: count BOS and separators too.
        run: told of the progress, asked whether to pause or stop.

    Raises:
        TextError: the text is empty or damaged, or the vocabulary lacks more than 5 % of it.
        DiskError: the cache of tokens cannot be written.
    """
    if corpus.toy is not None:
        return _of_toy(corpus, corpus.toy, model, tokens, run)
    own = int(model.facts.context)
    length = min(context, own)
    tokenizer = model.tokenizer
    bos = tokenizer.bos_token_id if prepend_bos else None
    if length < 2:
        raise TextError(f"A context of {length} tokens has no room for text; choose at least 2.")
    if run is not None and length < context:
        run.say(f"The context is cut from {context:,} to {length:,} tokens, which is all that {model.reference} takes.")
    folder = places.cache() / "tokens" / _key(corpus, tokenizer, tokens, length, bos)
    if not (folder / "facts.json").exists():
        _write(folder, corpus, tokenizer, tokens, length, bos, run)
    found = json.loads((folder / "facts.json").read_bytes())
    with contextlib.suppress(OSError):  # a cache that may only be read serves as well
        (folder / "facts.json").touch()
    shape = (found["contexts"], length)
    ids = np.memmap(folder / "ids.i32", dtype="<i4", mode="r", shape=shape)
    counted = np.memmap(folder / ("any.u1" if include_special else "text.u1"), dtype="?", mode="r", shape=shape)
    text = corpus.describe()
    bos_word = None if bos is None else tokenizer.convert_ids_to_tokens(bos)
    facts = found | {"asked": tokens, "context": length, "context_asked": context, "bos": bos_word, "text": text}
    if run is not None:
        # What a run has read stands in the session's tree beside models and dictionaries.
        used = {"tokenizer": model.reference, "tokens": found["tokens"]}
        run.produce("corpora", corpus_id(corpus.reference), {"title": corpus.title, "source": text, **used})
    _say_what_is_missing(corpus, found["tokens"], tokens, run)
    return Contexts(ids, counted, facts)


def _say_what_is_missing(corpus: Corpus, found: int, asked: int, run: Run | None) -> None:
    if run is not None and found < asked:
        run.say(f"{corpus.title} gave {found:,} of the {asked:,} tokens asked for: it has no more.", "warning")


def _of_toy(corpus: Corpus, data: ToyData, model: TokenisingModel, tokens: int, run: Run | None) -> Contexts:
    """The first sequences of a toy's data: each is a context as it stands, since the toy read it so in training.

    Raises:
        TextError: another model was given, or one that does not read sequences of this length.
    """
    made_for, length = getattr(model.facts, "text", ""), data.tokens.shape[1]
    if made_for != corpus.reference:
        raise TextError(
            f"The data {corpus.reference} is numbers of the toy's own tokens, which only the model "
            f"{corpus.reference} reads; choose that model, or another text for {model.reference}."
        )
    if length > int(model.facts.context) or not len(data.tokens):
        raise TextError(f"{corpus.title} has {len(data.tokens):,} sequences of {length:,} tokens; train the toy again.")
    counted = data.counted if data.counted is not None else np.ones(data.tokens.shape, dtype=bool)
    seen = np.cumsum(counted.sum(axis=1))
    rows = min(int(np.searchsorted(seen, tokens)) + 1, len(data.tokens))
    counted = np.array(counted[:rows], dtype=bool)
    behind = np.cumsum(counted).reshape(counted.shape) > tokens
    counted &= ~behind
    found = int(counted.sum())
    if not found:
        raise TextError(f"{corpus.title} has no position that counts; train the toy again.")
    facts = {
        "tokens": found, "contexts": rows, "documents": rows, "unknown": 0, "unknown_share": 0.0,
        "asked": tokens, "context": length, "context_asked": length, "bos": None, "text": corpus.describe(),
        "predicted": data.next_token,
    }  # fmt: skip
    _say_what_is_missing(corpus, found, tokens, run)
    return Contexts(np.asarray(data.tokens[:rows], dtype=np.int32), counted, facts)


def corpus_id(reference: str) -> str:
    """The id under which a corpus stands in a session: the same reference gives the same id.

    A file is told from another of its name by a digest of its whole path.
    """
    words = re.sub(r"[^a-z0-9]+", "-", Path(reference).name.lower()).strip("-") or "text"
    if reference in BUILT_IN:
        return words
    return f"{words[:40].strip('-')}-{hashlib.sha256(reference.encode()).hexdigest()[:8]}"


def _key(corpus: Corpus, tokenizer: Any, tokens: int, length: int, bos: int | None) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    parts = [FORM, corpus.fingerprint, hashlib.sha256(words.encode()).hexdigest(), tokens, length, bos, corpus.endless]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _unknown_id(tokenizer: Any) -> int | None:
    """The id that stands for words the vocabulary lacks; None where the tokenizer can write any text."""
    unknown = tokenizer.unk_token_id
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    kind = type(backend.model).__name__ if backend is not None else "slow"
    # Byte-pair tokenizers often name an unknown token (GPT-2: its end of text) that they never produce.
    if unknown is None or (kind == "BPE" and backend.model.unk_token is None):
        return None
    return int(unknown)


class _Tokeniser:
    """Turns a corpus into pieces ``(n, 2)`` of id and what it holds, counting as it goes."""

    def __init__(self, corpus: Corpus, tokenizer: Any, tokens: int, run: Run | None) -> None:
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.asked = tokens
        self.run = run
        self.unknown_id = _unknown_id(tokenizer)
        special = set(tokenizer.all_special_ids)
        reserved = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        if self.unknown_id not in reserved:
            special.discard(self.unknown_id)  # an unknown word is text all the same
        self.special = np.array(sorted(special), dtype=np.int32)
        self.documents = self.unknown = self.read = 0
        self._begun = run.seconds if run is not None else 0.0

    def pieces(self) -> Iterator[tuple[Array, bool]]:
        batch: list[tuple[str, bool]] = []
        together = 1  # grows, so that few tokens of a long text are had without reading far ahead
        for entry in self.corpus.pieces():
            batch.append(entry)
            if len(batch) >= together:
                yield from self._encode(batch)
                batch, together = [], min(TOGETHER, together * 2)
        if batch:
            yield from self._encode(batch)

    def _encode(self, batch: list[tuple[str, bool]]) -> Iterator[tuple[Array, bool]]:
        if self.run is not None:
            self.run.point()
        texts = [text for text, _ in batch]
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # pieces longer than the model's context are wanted here
        )
        for ids, (_, starts) in zip(encoded["input_ids"], batch, strict=True):
            row = np.empty((len(ids), 2), dtype=np.int32)
            row[:, 0] = ids
            row[:, 1] = np.where(np.isin(row[:, 0], self.special), SPECIAL, TEXT)
            self.documents += starts
            yield row, starts

    def count(self, row: Array) -> tuple[Array, Array]:
        """Take one finished context ``(context, 2)`` into account.

        Returns where it holds text, and where it holds text or a special token: not behind the last
        token asked for.
        """
        is_text = row[:, 1] == TEXT
        wanted = np.cumsum(is_text) - is_text < self.asked - self.read
        is_text &= wanted
        text = row[is_text, 0]
        self.read += len(text)
        if self.unknown_id is not None:
            self.unknown += int(np.count_nonzero(text == self.unknown_id))
        if self.run is not None:
            self.run.progress(self.read, self.asked, "tokens", since=(0.0, self._begun))
        return is_text, wanted & (row[:, 1] != PADDING)

    @property
    def enough(self) -> bool:
        # Once the unknown words are too many for the whole, no further text can mend it.
        return self.read >= self.asked or self.unknown > UNKNOWN_SHARE * self.asked


def _write(
    folder: Path, corpus: Corpus, tokenizer: Any, tokens: int, length: int, bos: int | None, run: Run | None
) -> None:
    """Tokenise and pack into ``folder``, which appears whole or not at all."""
    if run is not None:
        run.stage(f"Tokenising {corpus.title}")
    tokeniser = _Tokeniser(corpus, tokenizer, tokens, run)
    end, filler = tokenizer.eos_token_id, tokenizer.pad_token_id
    if filler is None:
        filler = end if end is not None else 0
    rows = pack(
        tokeniser.pieces(),
        length,
        first=None if bos is None else np.array([bos, SPECIAL], np.int32),
        separator=None if end is None else np.array([end, SPECIAL], np.int32),
        padding=np.array([filler, PADDING], np.int32),
        whole=corpus.endless,
    )
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        written = _write_rows(temporary, rows, tokeniser)
        _judge(corpus, tokeniser)
        facts = {
            "tokens": tokeniser.read,
            "contexts": written,
            "documents": tokeniser.documents,
            "unknown": tokeniser.unknown,
            "unknown_share": tokeniser.unknown / tokeniser.read,
        }
        files.write_bytes(temporary / "facts.json", json.dumps(facts).encode(), durable=False)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(folder)


def _write_rows(folder: Path, rows: Iterator[Array], tokeniser: _Tokeniser) -> int:
    written = 0
    waiting: dict[str, list[bytes]] = {"ids.i32": [], "text.u1": [], "any.u1": []}

    def flush() -> None:
        for name, parts in waiting.items():
            files.append(folder / name, b"".join(parts))
            parts.clear()

    for row in rows:
        is_text, is_any = tokeniser.count(row)
        waiting["ids.i32"].append(row[:, 0].astype("<i4").tobytes())
        waiting["text.u1"].append(is_text.tobytes())
        waiting["any.u1"].append(is_any.tobytes())
        written += 1
        if written % ROWS == 0:
            flush()
        if tokeniser.enough:
            break
    flush()
    return written


def _judge(corpus: Corpus, tokeniser: _Tokeniser) -> None:
    if not tokeniser.read:
        raise TextError(f"{corpus.title} holds no text to take tokens from; choose another text.")
    share = tokeniser.unknown / tokeniser.read
    if share > UNKNOWN_SHARE:
        raise TextError(
            f"The model's vocabulary lacks {share:.0%} of the words of {corpus.title} (5 % is the most that makes "
            "sense); choose another text or another model."
        )


def _put_in_place(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as problem:
        if not (folder / "facts.json").exists():  # else another process made the same tokens meanwhile
            raise files.explain(problem, folder) from problem


def _prune(newest: Path) -> None:
    """Delete the tokens that were not used for the longest time, beyond `CACHE_LIMIT`."""
    sized = []
    for marker in newest.parent.glob("[!.]*/facts.json"):
        size = sum(path.stat().st_size for path in marker.parent.iterdir())
        sized.append((marker.stat().st_mtime, size, marker.parent))
    total = sum(size for _, size, _ in sized)
    for _, size, folder in sorted(sized):
        if total <= CACHE_LIMIT or folder == newest:
            break
        shutil.rmtree(folder, ignore_errors=True)
        total -= size
