"""When two spellings are one name: Unicode as Persian needs it.

A keyboard, a phone and a spreadsheet spell one Persian name in several ways: with Arabic or Persian
letters and digits, with or without vowel signs, joiners and direction marks.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import unicodedata

# Arabic letters that stand for a Persian one, and Persian ones with a hamza.
_LETTERS = {
    "ي": "ی", "ى": "ی", "ئ": "ی", "ې": "ی", "ۍ": "ی", "ێ": "ی", "ے": "ی", "ۓ": "ی",
    "ك": "ک", "ڪ": "ک", "ګ": "گ",
    "ة": "ه", "ۀ": "ه", "ە": "ه", "ہ": "ه", "ھ": "ه", "ۂ": "ه", "ۃ": "ه",
    "أ": "ا", "إ": "ا", "ٱ": "ا", "ؤ": "و",
    "\N{ARABIC TATWEEL}": "",
}  # fmt: skip
# Characters without a shape that Unicode does not class as format characters (Cf).
_SHAPELESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_SHOWN = 80  # characters of a name in a message


@functools.lru_cache(maxsize=1 << 16)
def key(name: str) -> str:
    """The same text for all spellings of a name, different texts for different names.

    Compatibility forms are decomposed and composed again (NFKC), Arabic letters become Persian,
    digits of any script become 0 to 9. Arabic vowel signs, joiners, direction marks and other
    characters without a shape are left out; letter case and the amount of white space do not count.
    """
    text = unicodedata.normalize("NFKC", name).translate(_PLAIN)
    text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.split())


def spelling(names: set[str]) -> str:
    """The one of several spellings of a name that is used for all: the plainest, by its key."""
    return min(names, key=lambda name: (name != key(name), name.casefold() != key(name), name))


def shown(name: str) -> str:
    """A name for a message: quoted, shapeless characters escaped, and both ends if it is long."""
    half = _SHOWN // 2
    return repr(name if len(name) <= _SHOWN else f"{name[:half]}…{name[-half:]}")


def digest(name: str) -> str:
    """16 hexadecimal digits that stand for a name where it is too long, or taken."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


class _Plain(dict[int, str]):
    """What becomes of each character, worked out when it is first met; for `str.translate`."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        category = unicodedata.category(letter)
        arabic_sign = category == "Mn" and unicodedata.name(letter, "").startswith("ARABIC")
        if letter in _LETTERS:
            plain = _LETTERS[letter]
        elif category == "Nd":
            plain = str(unicodedata.decimal(letter))
        else:
            shapeless = category == "Cf" or _SHAPELESS.match(letter)
            plain = "" if arabic_sign or shapeless else letter
        return self.setdefault(code, plain)


_PLAIN = _Plain()
