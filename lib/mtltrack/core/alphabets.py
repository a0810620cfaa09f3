"""Alphabets of plate texts: loading them by name, bringing texts into one form, texts to codes and back.

The named alphabets are the files `alphabets/<name>.txt` beside this module; white space in them separates
nothing. A code is 1 + the character's place in the alphabet; 0 is CTC's blank and the filling behind a text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from itertools import pairwise

from mtltrack.core.errors import ConfigError, DataError, did_you_mean

BLANK = 0
"""Class of CTC's blank."""

LEFT_OUT = "PZC"  # Unicode categories of punctuation, separators, control characters: "Pd" is a hyphen


@lru_cache(maxsize=1)
def alphabet_names() -> tuple[str, ...]:
    """Return the names of the alphabets that come with the package, sorted."""
    files = resources.files("mtltrack.core").joinpath("alphabets").iterdir()
    return tuple(sorted(file.name[:-4] for file in files if file.name.endswith(".txt")))


def load_alphabet(name_or_characters: str) -> str:
    """Return an alphabet's characters in the order of their codes.

    Args:
        name_or_characters: a name of `alphabet_names()` ("latin": 0-9 and A-Z; "chinese": these and the
            characters of Chinese plates), or the characters themselves.

    Raises:
        ConfigError: an unknown name; or characters that are fewer than two, stand there twice, or can't occur
            in a text brought into `normalise_text`'s form.
    """
    if name_or_characters in alphabet_names():
        file = resources.files("mtltrack.core").joinpath("alphabets") / f"{name_or_characters}.txt"
        return "".join(file.read_text(encoding="utf-8").split())
    characters = name_or_characters
    choices = f"Give one of {', '.join(alphabet_names())}, or the characters themselves."
    if normalise_text(characters) != characters or len(characters) < 2:
        raise ConfigError(
            f"TASKS.ocr.ALPHABET is '{characters}', which is neither a known name nor a set of at least two "
            "characters in the form of plate texts (upper case, no spaces or punctuation)."
            f"{did_you_mean(characters, alphabet_names())} {choices}"
        )
    twice = sorted({c for c in characters if characters.count(c) > 1})
    if twice:
        raise ConfigError(f"TASKS.ocr.ALPHABET holds {', '.join(twice)} more than once. {choices}")
    return characters


def normalise_text(text: str) -> str:
    """Return a plate's text in the form that is learned and compared: upper case, no spaces or punctuation.

    Full-width characters become plain ones (Unicode's NFKC form).
    """
    plain = unicodedata.normalize("NFKC", text).upper()
    return "".join(c for c in plain if unicodedata.category(c)[0] not in LEFT_OUT)


def columns_needed(text: str) -> int:
    """Return how many columns CTC needs to emit a text: its length plus a blank between equal neighbours."""
    return len(text) + sum(a == b for a, b in pairwise(text))


def encode_text(text: str, alphabet: str, columns: int, where: str) -> list[int]:
    """Return the codes of a plate's text, after `normalise_text`.

    Args:
        text: as it was annotated.
        alphabet: the characters, as `load_alphabet` returns them.
        columns: columns of the reader (TASKS.ocr.COLUMNS).
        where: file and line of the annotation, for messages.

    Raises:
        DataError: nothing is left of the text, it has a character outside the alphabet, or it is longer than
            CTC can emit.
    """
    plain = normalise_text(text)
    if not plain:
        raise DataError(
            f"{where}: the plate's text '{text}' has no character. Leave the text out where it isn't known."
        )
    strange = sorted(set(plain) - set(alphabet))
    if strange:
        raise DataError(
            f"{where}: the plate's text '{text}' has {', '.join(map(repr, strange))}, which the alphabet "
            f"'{alphabet}' doesn't hold. Correct the text, or name an alphabet with it in TASKS.ocr.ALPHABET."
        )
    needed = columns_needed(plain)
    if needed > columns:
        raise DataError(
            f"{where}: the plate's text '{text}' needs {needed} columns (its {len(plain)} characters, one "
            f"more between equal neighbours), but the reader has {columns}. Correct the text, or raise "
            "TASKS.ocr.COLUMNS."
        )
    return [1 + alphabet.index(c) for c in plain]


def decode_codes(codes: Iterable[int], alphabet: str) -> str:
    """Return the text of codes, each 1 + a place in the alphabet; zeros (filling) are left out."""
    return "".join(alphabet[int(code) - 1] for code in codes if int(code) != BLANK)
