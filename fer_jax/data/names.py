"""When two spellings are one name: Unicode as Persian needs it.

A keyboard, a phone and a spreadsheet spell one Persian name in several ways: with Arabic or Persian
letters and digits, with or without vowel signs, joiners and direction marks.
"""

from __future__ import annotations

import functools
import unicodedata

# Arabic letters that stand for a Persian one, and Persian ones with a hamza.
_LETTERS = str.maketrans(
    {
        "ي": "ی", "ى": "ی", "ئ": "ی", "ې": "ی", "ك": "ک", "ڪ": "ک", "ة": "ه", "ۀ": "ه", "ە": "ه",
        "ہ": "ه", "ھ": "ه", "ۂ": "ه", "أ": "ا", "إ": "ا", "ٱ": "ا", "ؤ": "و",
        "\N{ARABIC TATWEEL}": "",
    }
)  # fmt: skip


@functools.lru_cache(maxsize=1 << 16)
def key(name: str) -> str:
    """The same text for all spellings of a name, different texts for different names.

    Compatibility forms are decomposed and composed again (NFKC), Arabic letters become Persian,
    digits of any script become 0 to 9. Arabic vowel signs, joiners, direction marks and other
    characters without a shape are left out; letter case and the amount of white space do not count.
    """
    text = unicodedata.normalize("NFKC", name).translate(_LETTERS)
    text = "".join(map(_plain, text))
    text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.split())


def spelling(names: set[str]) -> str:
    """The one of several spellings of a name that is used for all: the plainest, by its key."""
    return min(names, key=lambda name: (name != key(name), name.casefold() != key(name), name))


def _plain(letter: str) -> str:
    category = unicodedata.category(letter)
    if category == "Nd":
        return str(unicodedata.decimal(letter))
    arabic_sign = category == "Mn" and unicodedata.name(letter, "").startswith("ARABIC")
    shapeless = category == "Cf" or letter == "\N{COMBINING GRAPHEME JOINER}"
    variation = "\ufe00" <= letter <= "\ufe0f"
    return "" if arabic_sign or shapeless or variation else letter
