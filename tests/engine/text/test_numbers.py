"""Numbers as tokens: of a small BPE, of words, and of SmolLM2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.models.native import SPECIAL, word_tokenizer
from engine.text.errors import TextError
from engine.text.numbers import check_template, number_prompts, number_tokens, whole_hundreds


@pytest.fixture(scope="module")
def words() -> Any:
    return word_tokenizer([*map(str, range(120)), "+", "=", *SPECIAL])


@pytest.fixture(scope="module")
def merged() -> Any:
    """A BPE in which 12 is one token, and " 7" with its space as well; 21 is two."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: number for number, text in enumerate([*alphabet, "12", "Ġ7", "Ġ8", "Ġ12"])}
    inner = Tokenizer(models.BPE(vocabulary, [("1", "2"), ("Ġ", "7"), ("Ġ", "8"), ("Ġ", "12")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def test_words_of_a_toy_are_number_tokens_and_unknown_ones_are_none(words):
    found = number_tokens(words, 299)
    np.testing.assert_array_equal(found.values, np.arange(120))
    np.testing.assert_array_equal(found.ids, np.arange(120))
    assert found.dropped == 180
    assert not found.spaced


def test_the_form_with_more_numbers_is_taken(merged):
    found = number_tokens(merged, 30)
    np.testing.assert_array_equal(found.values, [*range(10), 12])
    assert not found.spaced  # bare: 0 … 9 and 12; with a space only 7, 8 and 12
    assert found.dropped == 20


def test_smollm2_has_the_ten_digits_only(smollm2):
    found = number_tokens(smollm2.tokenizer, 299)
    np.testing.assert_array_equal(found.values, np.arange(10))
    assert found.dropped == 290


def test_a_number_of_several_tokens_is_read_at_its_last_digit(smollm2):
    pairs = [(a, b) for a in (3, 45, 678) for b in (9, 12)]
    found = number_prompts(smollm2.tokenizer, pairs, "{b} + {a} =", bos=smollm2.bos, single=False)
    for row, (a, b) in enumerate(pairs):
        assert found.texts[row] == f"{b} + {a} ="
        assert found.parts[row] == len(str(a))
        place = found.positions[row]
        assert smollm2.token_texts([found.ids[row, place]]) == [str(a)[-1]]
        assert smollm2.tokenizer.decode(found.ids[row, 1 : place + 1]) == f"{b} + {a}"
    assert (found.ids[:, 0] == smollm2.bos).all()
    assert found.dropped == ()


def test_the_end_of_the_prompt_is_its_last_token_before_the_padding(words):
    found = number_prompts(words, [(3, 4), (110, 5)], "{a} + {b} =", place="end")
    equals = words.convert_tokens_to_ids("=")
    np.testing.assert_array_equal(found.ids[np.arange(2), found.positions], [equals, equals])
    np.testing.assert_array_equal(found.values, [3, 110])
    np.testing.assert_array_equal(found.others, [4, 5])


def test_only_numbers_of_one_token_are_taken_when_that_is_asked(merged):
    found = number_prompts(merged, [(a, 0) for a in (7, 12, 21)], " {a}", single=True)
    np.testing.assert_array_equal(found.values, [7, 12])
    np.testing.assert_array_equal(found.parts, [1, 1])
    assert found.dropped == (21,)
    both = number_prompts(merged, [(a, 0) for a in (7, 12, 21)], " {a}", single=False)
    np.testing.assert_array_equal(both.values, [7, 12, 21])


def test_a_number_whose_end_melts_into_what_follows_is_dropped(merged):
    found = number_prompts(merged, [(1, 0), (3, 0)], "{a}2", single=False)  # “12” is one token: 1 has no end in it
    np.testing.assert_array_equal(found.values, [3])
    assert found.dropped == (1,)


def test_numbers_unknown_to_a_toy_are_dropped_and_none_left_is_refused(words):
    found = number_prompts(words, [(5, 0), (500, 0)], single=False)
    assert found.dropped == (500,)
    with pytest.raises(TextError, match="None of 1 numbers is written in tokens of their own"):
        number_prompts(words, [(500, 0)], single=False)
    with pytest.raises(TextError, match="None of 1 numbers is written in one token"):
        number_prompts(words, [(500, 0)])


@pytest.mark.parametrize("template", ["", "no number", "{a} {a}", "{a} {b} {b}", "{a} {c}", "{a", "{}"])
def test_a_template_without_exactly_one_number_is_refused(template):
    with pytest.raises(TextError, match="template"):
        check_template(template)


def test_a_template_says_whether_it_has_a_second_number():
    assert check_template("{a}+{b}=")
    assert not check_template("{a}")


def test_numbers_without_gap_are_cut_to_whole_hundreds():
    np.testing.assert_array_equal(whole_hundreds(np.arange(361)), np.arange(300))
    np.testing.assert_array_equal(whole_hundreds(np.arange(199)), np.arange(100))
    np.testing.assert_array_equal(whole_hundreds(np.arange(10)), np.arange(10))
    with_gap = np.delete(np.arange(361), 7)
    np.testing.assert_array_equal(whole_hundreds(with_gap), with_gap)
