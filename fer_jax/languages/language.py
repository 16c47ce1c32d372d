"""Texts and numbers in English and Persian.

The texts are in `en.toml` and `fa.toml`, under the same keys and with the same placeholders.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fer_jax.languages import emotions

Code: TypeAlias = Literal["en", "fa"]

_PERSIAN = str.maketrans("0123456789.,", "۰۱۲۳۴۵۶۷۸۹٫٬")
_MINUS = "−"
# Without these invisible marks, the place of a sign would depend on the text around the number. The
# percent sign is on the left of a Persian number, as are plus and minus.
_AROUND_PERCENT, _BEFORE_SIGN = "\N{ARABIC LETTER MARK}", "\N{LEFT-TO-RIGHT MARK}"
_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"


class Language:
    """A language: its texts by key, the names of emotions, and its notation of numbers.

    Args:
        code: "en" or "fa".
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self.direction = "rtl" if code == "fa" else "ltr"
        self.texts = _flat(
            tomllib.loads(Path(__file__).with_name(f"{code}.toml").read_text("utf-8"))
        )

    def text(self, key: str, **values: Any) -> str:
        """The text under `key` with its placeholders replaced; integers get the language's digits.

        Raises:
            KeyError: there is no such text, or no value for one of its placeholders.
        """
        return self.texts[key].format_map(
            {
                name: self.number(value) if isinstance(value, int) else value
                for name, value in values.items()
            }
        )

    def emotion(self, label: str) -> str:
        """The name of an emotion in this language.

        In English, and for unknown emotions, it is the label itself.
        """
        known = emotions.table().get(label)
        return known.names[self.code] if known and self.code != "en" else label

    def task(self, name: str) -> str:
        """What the task `name` trains a network on, such as "rotated pictures".

        For a task of the user, for which there is no text, this is `name` itself.
        """
        return self.texts.get(f"task.{name}", name)

    def emotions(self, numbers: Mapping[str, int]) -> str:
        """Emotions with their counts, such as "happy 12, sad 3"."""
        return self.listing(
            self.text("result.emotion", emotion=self.emotion(label), number=self.count(number))
            for label, number in numbers.items()
        )

    def listing(self, items: Iterable[Any]) -> str:
        """The items, separated by commas."""
        return self.texts["list.comma"].join(map(str, items))

    def count(self, number: int, thing: str = "") -> str:
        """A number, such as "1,024", followed by `noun(thing, number)` unless `thing` is ""."""
        shown = self.digits(f"{number:,}")
        return f"{shown} {self.noun(thing, number)}" if thing else shown

    def noun(self, thing: str, number: int) -> str:
        """The noun after `number`: the text `count.<thing>`, or one of its two forms.

        The forms for 1 and for other numbers are separated by "|". If there is no text
        `count.<thing>`, the noun is `thing` itself.
        """
        one, _, several = self.texts.get(f"count.{thing}", thing).partition("|")
        return one if number == 1 or not several else several

    def digits(self, text: str) -> str:
        """The text with the digits, decimal point and commas of the language."""
        return text.translate(_PERSIAN) if self.code == "fa" else text

    def number(self, value: float | int, decimals: int = 0) -> str:
        """A number with `decimals` digits after the point, and a typographic minus."""
        return self._signed(f"{value:.{decimals}f}")

    def grouped(self, value: int) -> str:
        """An integer with its digits in groups of three, separated by a narrow space in English."""
        shown = f"{value:,}"
        return self._signed(shown if self.code == "fa" else shown.replace(",", "\u202f"))

    def percent(self, share: float | None, decimals: int = 1) -> str:
        """A share in 0..1 as a percentage with `decimals` decimal places; a dash for None."""
        if share is None:
            return "–"
        shown = f"{100 * share:.{decimals}f}"
        if self.code == "fa":
            return f"{self.digits(shown)}٪".join((_AROUND_PERCENT, _AROUND_PERCENT))
        return f"{shown}\u202f%"

    def points(self, difference: float) -> str:
        """A difference of shares in percentage points, with a sign and one decimal place."""
        return self.signed(100 * difference, 1)

    def signed(self, value: float, decimals: int) -> str:
        """A number with a plus or minus sign."""
        return self._signed(f"{value:+.{decimals}f}")

    def time(self, moment: datetime) -> str:
        """The date and the time of day of `moment`, which must be in UTC."""
        return self.text(
            "date.full",
            day=self.digits(f"{moment.day:02d}"),
            month=self.texts[f"date.month.{moment.month}"],
            year=moment.year,
            time=self.digits(f"{moment:%H:%M}"),
        )

    def isolated(self, text: str) -> str:
        """`text`; in Persian, if it has Latin letters, between marks that isolate its direction.

        Without them, a name in Latin letters would reorder the sentence around it.
        """
        latin = self.code == "fa" and any("a" <= letter <= "z" for letter in text.lower())
        return text.join(_ISOLATE) if latin else text

    def for_terminal(self, text: str) -> str:
        """The text with a plain minus and without isolates, which `console` would print escaped."""
        return text.translate(dict.fromkeys(map(ord, _ISOLATE))).replace(_MINUS, "-")

    def _signed(self, shown: str) -> str:
        shown = self.digits(shown).replace("-", _MINUS)
        has_sign = self.code == "fa" and shown[0] in f"+{_MINUS}"
        return _BEFORE_SIGN + shown if has_sign else shown


_spoken: contextvars.ContextVar[Code] = contextvars.ContextVar("spoken", default="en")


def spoken() -> Language:
    """The current language of messages: English outside a `speaking` block."""
    return language(_spoken.get())


@contextlib.contextmanager
def speaking(code: Code) -> Iterator[None]:
    """Sets the language of messages in the block."""
    token = _spoken.set(code)
    try:
        yield
    finally:
        _spoken.reset(token)


@functools.cache
def language(code: Code) -> Language:
    """The language with this code; its file is read only once."""
    return Language(code)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The texts of nested tables, by dotted keys."""
    texts: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, str):
            texts[prefix + name] = value
        else:
            texts |= _flat(value, f"{prefix}{name}.")
    return texts


ENGLISH = language("en")
