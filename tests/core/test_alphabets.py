"""Alphabets, texts in one form, codes."""

import pytest

from mtltrack.core.alphabets import (
    alphabet_names,
    columns_needed,
    decode_codes,
    encode_text,
    load_alphabet,
    normalise_text,
)
from mtltrack.core.errors import ConfigError, DataError


def test_the_named_alphabets_hold_each_character_once_in_the_form_of_texts():
    assert alphabet_names() == ("chinese", "latin")
    assert load_alphabet("latin") == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    chinese = load_alphabet("chinese")
    assert chinese.startswith(load_alphabet("latin")) and "皖" in chinese and "新" in chinese
    for name in alphabet_names():
        alphabet = load_alphabet(name)
        assert len(set(alphabet)) == len(alphabet) and normalise_text(alphabet) == alphabet


def test_characters_may_be_given_directly():
    assert load_alphabet("0123AB") == "0123AB"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "latn",
            r"'latn', which is neither a known name.* Did you mean 'latin'\? Give one of chinese, latin",
        ),
        ("AB-C", r"no spaces or punctuation"),
        ("A", r"at least two characters"),
        ("", r"at least two characters"),
        ("ABCA", r"ALPHABET holds A more than once"),
    ],
)
def test_characters_that_make_no_alphabet_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        load_alphabet(given)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("皖A·D8 68.E", "皖AD868E"),
        ("ls-ab 12", "LSAB12"),
        ("\uff21\uff22\uff11", "AB1"),  # full-width A, B, 1
        ("N24 \u2013 27E\r\n", "N2427E"),  # an en dash and the end of a line
    ],
)
def test_texts_are_brought_into_one_form(text, plain):
    assert normalise_text(text) == plain


def test_codes_are_places_counted_from_one_and_lead_back():
    alphabet = load_alphabet("latin")
    assert encode_text("0a-Z", alphabet, 24, "x:1") == [1, 11, 36]
    assert decode_codes([1, 11, 36, 0, 0], alphabet) == "0AZ"


def test_equal_neighbours_need_a_blank_between_them():
    assert columns_needed("ABA") == 3
    assert columns_needed("AAB11") == 7
    assert encode_text("AA", "AB", 3, "x:1") == [1, 1]
    with pytest.raises(
        DataError, match=r"labels.csv:7: .*'AA' needs 3 columns .* but the reader has 2\..*COLUMNS"
    ):
        encode_text("AA", "AB", 2, "labels.csv:7")


def test_a_character_outside_the_alphabet_is_refused_with_its_place():
    with pytest.raises(
        DataError, match=r"labels.csv:7: .*'皖A1' has '皖', which the alphabet .*TASKS\.ocr\.ALPHABET"
    ):
        encode_text("皖A1", load_alphabet("latin"), 24, "labels.csv:7")


def test_a_text_without_a_character_is_refused():
    with pytest.raises(DataError, match=r"labels.csv:7: the plate's text ' - ' has no character"):
        encode_text(" - ", "AB", 24, "labels.csv:7")
