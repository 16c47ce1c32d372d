"""Comparison of names that are spelled differently: Unicode normalisation, also for Persian.

Keyboards, phones and spreadsheets may spell the same Persian name differently: with Arabic or
Persian letters and digits, with or without vowel signs, joiners and direction marks.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import unicodedata

# Arabic letters used in place of Persian ones, and Persian letters with a hamza.
_LETTERS = {
    "ي": "ی", "ى": "ی", "ئ": "ی", "ې": "ی", "ۍ": "ی", "ێ": "ی", "ے": "ی", "ۓ": "ی",
    "ك": "ک", "ڪ": "ک", "ګ": "گ",
    "ة": "ه", "ۀ": "ه", "ە": "ه", "ہ": "ه", "ھ": "ه", "ۂ": "ه", "ۃ": "ه",
    "أ": "ا", "إ": "ا", "ٱ": "ا", "ؤ": "و",
    "\N{ARABIC TATWEEL}": "",
}  # fmt: skip
# Invisible characters that Unicode does not class as format characters (Cf).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_SHOWN = 80  # characters of a name in a message


@functools.lru_cache(maxsize=1 << 16)
def key(name: str) -> str:
    """A key of a name; names with the same key are spellings of one name.

    Compatibility forms are normalised (NFKC), Arabic letters become Persian, and digits of any
    script become 0 to 9. Arabic vowel signs, joiners, direction marks and other invisible
    characters are left out. Letter case and the amount of white space are ignored.
    """
    text = unicodedata.normalize("NFKC", name).translate(_PLAIN)
    text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.split())


def spelling(names: set[str]) -> str:
    """The spelling to show for a name with several spellings.

    It is the one that equals the name's key, or else one that differs from the key only in letter
    case, or else any; of several, the first in sorted order.
    """
    return min(names, key=lambda name: (name != key(name), name.casefold() != key(name), name))


def shown(name: str) -> str:
    """A name for a message: quoted, with invisible characters escaped, and shortened if long."""
    half = _SHOWN // 2
    return repr(name if len(name) <= _SHOWN else f"{name[:half]}…{name[-half:]}")


def digest(name: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a name, to replace an unusable name."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


class _Plain(dict[int, str]):
    """Maps each character to its plain form for `str.translate`; computed on first use."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        category = unicodedata.category(letter)
        arabic_sign = category == "Mn" and unicodedata.name(letter, "").startswith("ARABIC")
        if letter in _LETTERS:
            plain = _LETTERS[letter]
        elif category == "Nd":
            plain = str(unicodedata.decimal(letter))
        else:
            invisible = category == "Cf" or _INVISIBLE.match(letter)
            plain = "" if arabic_sign or invisible else letter
        return self.setdefault(code, plain)


_PLAIN = _Plain()
