"""Contexts, against tokenising every document whole and cutting the joined ids by hand."""

from __future__ import annotations

import errno
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine import files, places
from engine.files import DiskError
from engine.models.native import SPECIAL, word_tokenizer
from engine.text import stories, tokens
from engine.text.corpora import Corpus, open_corpus
from engine.text.errors import TextError
from engine.text.tokens import contexts

WORDS = [*stories.VOCABULARY, SPECIAL[2]]


@dataclass
class Model:
    """What `contexts` asks of an opened model."""

    tokenizer: Any
    length: int = 128
    reference: str = "demo"
    facts: Any = field(init=False)

    def __post_init__(self) -> None:
        self.facts = SimpleNamespace(context=self.length)


@pytest.fixture(scope="module")
def story_model() -> Model:
    return Model(word_tokenizer(WORDS))


@pytest.fixture(scope="module")
def prose_model() -> Model:
    """A byte-pair tokenizer as GPT-2's, learnt from the prose itself; its unknown token is its end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<|end|>", "<|begin|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(itertools.islice(open_corpus("python-docs").documents(), 30), trainer)
    special = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "unk_token": "<|end|>"}
    return Model(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special), length=512)


def by_hand(corpus: Corpus, tokenizer: Any, wanted: int, context: int, bos: bool) -> tuple[list[list[int]], list[Any]]:
    """Ids and what counts, one whole document and one token at a time; None marks padding and special tokens."""
    rows: list[list[int]] = []
    counted: list[list[bool]] = []
    found = 0
    for document in corpus.documents():
        ids = tokenizer.encode(document, add_special_tokens=False)
        first = True
        while ids and found < wanted:
            if not rows or len(rows[-1]) == context:
                if corpus.endless and not first:
                    break
                rows.append([tokenizer.bos_token_id] if bos else [])
                counted.append([False] if bos else [])
            if first and len(rows[-1]) > bos:
                rows[-1].append(tokenizer.eos_token_id)
                counted[-1].append(False)
                first = False
                continue
            first = False
            rows[-1].append(ids.pop(0))
            counted[-1].append(True)
            found += 1
        if found == wanted:
            break
    return rows, counted


@pytest.mark.parametrize(("wanted", "context", "bos"), [(1000, 128, True), (1500, 60, False), (5000, 128, True)])
def test_stories_are_packed_as_by_hand(story_model: Model, wanted: int, context: int, bos: bool) -> None:
    corpus = open_corpus("stories")
    found = contexts(corpus, story_model, tokens=wanted, context=context, prepend_bos=bos)
    rows, counted = by_hand(corpus, story_model.tokenizer, wanted, context, bos)
    assert found.ids.dtype == np.int32
    assert found.ids.shape == found.counted.shape == (len(rows), context)
    for number, (row, marks) in enumerate(zip(rows, counted, strict=True)):
        assert found.ids[number, : len(row)].tolist() == row
        assert found.counted[number].tolist() == marks + [False] * (context - len(marks))
    assert found.counted.sum() == found.facts["tokens"] == wanted
    # Every context tells where its first story begins.
    assert (found.ids[:, int(bos)] == stories.WORD_IDS["one"]).all()


@pytest.mark.parametrize(("wanted", "context"), [(3000, 100), (60_000, 512)])
def test_prose_is_packed_as_by_hand_though_it_is_tokenised_in_pieces(
    prose_model: Model, wanted: int, context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.text import reading

    monkeypatch.setattr(reading.split, "__defaults__", (2000,))
    corpus = open_corpus("python-docs")
    assert max(len(piece) for piece, _ in corpus.pieces()) <= 2000
    found = contexts(corpus, prose_model, tokens=wanted, context=context)
    rows, counted = by_hand(corpus, prose_model.tokenizer, wanted, context, bos=True)
    flat = list(itertools.chain.from_iterable(rows))
    assert found.ids.ravel()[: len(flat)].tolist() == flat
    marks = list(itertools.chain.from_iterable(counted))
    assert found.counted.ravel()[: len(marks)].tolist() == marks
    assert not found.counted.ravel()[len(marks) :].any()


def test_tokens_are_distinct_and_all_there_when_more_are_asked_than_the_text_has(prose_model: Model) -> None:
    corpus = open_corpus("python-docs")
    everything = [prose_model.tokenizer.encode(document, add_special_tokens=False) for document in corpus.documents()]
    total = sum(map(len, everything))
    said: list[str] = []
    listed: dict[str, Any] = {}
    run: Any = SimpleNamespace(
        say=lambda text, level="info": said.append(text),
        produce=lambda section, id, attributes: listed.update({f"{section}/{id}": attributes}),
        stage=lambda text: None,
        point=lambda: None,
        progress=lambda *_, **__: None,
        seconds=0.0,
    )
    found = contexts(corpus, prose_model, tokens=10**9, context=256, run=run)
    assert found.ids[found.counted].tolist() == list(itertools.chain.from_iterable(everything))
    assert found.facts["tokens"] == total
    assert found.facts["asked"] == 10**9
    assert found.facts["documents"] == len(everything)
    assert f"gave {total:,} of the 1,000,000,000 tokens" in said[-1]
    assert listed["corpora/python-docs"]["source"]["sha256"] == corpus.describe()["sha256"]
    assert listed["corpora/python-docs"]["tokens"] == total


def test_special_tokens_count_only_where_asked_and_padding_never(story_model: Model) -> None:
    corpus = open_corpus("stories")
    plain = contexts(corpus, story_model, tokens=1010, context=128)
    special = contexts(corpus, story_model, tokens=1010, context=128, include_special=True)
    assert np.array_equal(plain.ids, special.ids)
    bos, end = stories.WORD_IDS["<start>"], stories.WORD_IDS["<end>"]
    is_special = np.isin(plain.ids, [bos, end])
    assert not plain.counted[is_special].any()
    last = np.flatnonzero(plain.counted.ravel())[-1]
    before = np.arange(plain.ids.size).reshape(plain.ids.shape) <= last
    assert np.array_equal(plain.counted, before & ~is_special)
    assert np.array_equal(special.counted, before)
    assert not plain.counted[:, 0].any()
    assert special.counted[:, 0].all()


def test_a_special_token_written_out_in_a_text_is_special_there_too(prose_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_text("Some words<|end|>and some more words")
    found = contexts(open_corpus(str(path)), prose_model, tokens=1000, context=64)
    end = prose_model.tokenizer.eos_token_id
    assert (found.ids[0] == end).sum() >= 1
    assert not found.counted[found.ids == end].any()
    # A byte-pair tokenizer knows no unknown words, whatever it calls its unknown token.
    assert found.facts["unknown"] == 0


def test_the_context_is_cut_to_the_model_s_own(story_model: Model) -> None:
    found = contexts(open_corpus("stories"), story_model, tokens=1000, context=4096)
    assert found.ids.shape[1] == 128
    assert (found.facts["context"], found.facts["context_asked"]) == (128, 4096)


def test_the_second_call_is_identical_and_reads_no_text(story_model: Model) -> None:
    corpus = open_corpus("stories")
    first = contexts(corpus, story_model, tokens=4000, context=128)

    def refuse() -> Any:
        raise AssertionError("the text was read again")

    silent = Corpus(
        corpus.reference, corpus.title, corpus.kind, refuse, corpus.fingerprint, corpus.endless, corpus.facts
    )
    second = contexts(silent, story_model, tokens=4000, context=128)
    assert np.array_equal(first.ids, second.ids)
    assert np.array_equal(first.counted, second.counted)
    assert first.facts == second.facts
    with pytest.raises(AssertionError):
        contexts(silent, story_model, tokens=4001, context=128)
    with pytest.raises(AssertionError):
        contexts(silent, Model(word_tokenizer([*WORDS, "extra"])), tokens=4000, context=128)


def test_a_changed_file_is_tokenised_again(story_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("one monday anna went home .")
    assert contexts(open_corpus(str(path)), story_model, tokens=1000, context=16).facts["tokens"] == 6
    path.write_text("one friday anna went home . she sang .")
    assert contexts(open_corpus(str(path)), story_model, tokens=1000, context=16).facts["tokens"] == 9


def test_a_text_of_foreign_words_is_refused_and_a_few_are_counted(story_model: Model, tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"vocabulary lacks \d+% of the words of Python documentation"):
        contexts(open_corpus("python-docs"), story_model, tokens=100_000, context=128)
    path = tmp_path / "words.txt"
    # One word in twenty is the most that is let through.
    path.write_text("anna went home . " * 19 + "zebra went home robot")
    found = contexts(open_corpus(str(path)), story_model, tokens=1000, context=128)
    assert (found.facts["unknown"], found.facts["unknown_share"]) == (2, 2 / 80)
    assert found.counted.sum() == 80
    path.write_text("anna went home . " * 9 + "zebra went robot robot")
    with pytest.raises(TextError, match="lacks 8%"):
        contexts(open_corpus(str(path)), story_model, tokens=1000, context=128)
    assert not [name for name in os.listdir(places.cache() / "tokens") if name.startswith(".")]


def test_a_text_without_tokens_is_refused(prose_model: Model, story_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "blank.txt"
    path.write_text(" \n\n ")
    with pytest.raises(TextError, match="holds no text"):
        contexts(open_corpus(str(path)), story_model, tokens=1000, context=128)


def test_a_line_of_ten_megabytes_gives_its_first_tokens(prose_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 2_000_000)
    found = contexts(open_corpus(str(path)), prose_model, tokens=2000, context=512)
    assert found.facts["tokens"] == 2000


def test_a_full_disk_gives_a_sentence_and_leaves_nothing(story_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.append

    def full(path: Path, content: bytes) -> None:
        if path.name == "text.u1":
            raise files.explain(OSError(errno.ENOSPC, "No space left on device"), path)
        real(path, content)

    monkeypatch.setattr(files, "append", full)
    with pytest.raises(DiskError, match="is full"):
        contexts(open_corpus("stories"), story_model, tokens=1000, context=128)
    assert not list((places.cache() / "tokens").iterdir())


def test_a_stop_while_tokenising_leaves_nothing(story_model: Model) -> None:
    class Stopped(Exception):
        pass

    points = iter([None] * 30)

    def point() -> None:
        if next(points, "stop") == "stop":
            raise Stopped

    run: Any = SimpleNamespace(
        say=print, stage=lambda text: None, point=point, progress=lambda *_, **__: None, seconds=0.0
    )
    with pytest.raises(Stopped):
        contexts(open_corpus("stories"), story_model, tokens=100_000, context=128, run=run)
    assert not list((places.cache() / "tokens").iterdir())


def test_the_tokens_unused_for_longest_are_dropped_first(story_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = open_corpus("stories")
    for number, wanted in enumerate((1000, 1001, 1002)):
        contexts(corpus, story_model, tokens=wanted, context=128)
        for marker in (places.cache() / "tokens").glob("*/facts.json"):
            if f'"tokens": {wanted},' in marker.read_text():
                os.utime(marker, (number, number))
    monkeypatch.setattr(tokens, "CACHE_LIMIT", 20_000)
    contexts(corpus, story_model, tokens=1003, context=128)
    left = sorted(marker.read_text() for marker in (places.cache() / "tokens").glob("*/facts.json"))
    assert len(left) == 2
    assert '"tokens": 1002,' in left[0]
    assert '"tokens": 1003,' in left[1]
