"""Texts, numbers and names in English and Persian."""

import re
import string
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fer_jax import console
from fer_jax.languages import emotions
from fer_jax.languages.language import language
from fer_jax.schemas.fields import LanguageCode

ENGLISH, PERSIAN = language("en"), language("fa")
PACKAGE = Path(__file__).parents[2] / "fer_jax"
INVISIBLE = re.compile("[\u061c\u200e\u2066-\u2069]")


def placeholders(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def seen(text):
    """The text without invisible marks of direction."""
    return INVISIBLE.sub("", text)


def test_both_languages_have_the_same_keys_and_placeholders():
    assert ENGLISH.texts.keys() == PERSIAN.texts.keys()
    for key, text in ENGLISH.texts.items():
        # A count may be a part of the sentence in one language and stand alone in the other.
        assert placeholders(text) == placeholders(PERSIAN.texts[key]), key


def test_every_text_is_used():
    """The code contains the key of each text, or the beginning of keys, such as "fact."."""
    sources = "".join(
        path.read_text("utf-8")
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".jinja") and "languages" not in path.parts
    ) + (PACKAGE / "languages" / "language.py").read_text("utf-8")
    found = set(re.findall(r"""["']([a-z_0-9]+(?:\.[a-z_0-9]+)+)["']""", sources))
    sections = set(re.findall(r"""["']([a-z_0-9]+(?:\.[a-z_0-9]+)*\.)["'{]""", sources))
    unused = [
        key
        for key in ENGLISH.texts
        if key not in found and not any(key.startswith(section) for section in sections)
    ]
    assert unused == []
    # `console.result` is called with the rest of the key.
    results = [key for key in ENGLISH.texts if key.startswith("result.")]
    parts = set(re.findall(r"""["'](?:result\.)?([a-z_]+)["']""", sources))
    assert [key for key in results if key.removeprefix("result.") not in parts] == []
    known = [key for key in found if key.split(".")[0] in {k.split(".")[0] for k in ENGLISH.texts}]
    assert len(known) > 100


def test_persian_texts_are_persian():
    for key, text in PERSIAN.texts.items():
        words = re.sub(r"\[\w+\]|\{\w+\}|<[^>]+>|⁦[^⁩]*⁩|\\u\w+", "", text)
        assert not re.search("[يكةىۀ٠-٩]", words), f"{key}: an Arabic letter or digit"
        assert not re.search("[0-9,;?]", words.replace("F1", "")), f"{key}: Latin digits or signs"
        if re.search("[A-Za-z]{2}", words):
            names = r"fer_jax|F1|Grad-CAM|t-SNE|BCa|SimCLR|VICReg|ImageNet|done\.json|p |k |t "
            rest = re.sub(names, "", words, flags=re.I)
            assert not re.search("[A-Za-z]{2}", rest), f"{key}: {text}"


@pytest.mark.parametrize(
    ("value", "english", "persian"),
    [
        (lambda words: words.percent(0.973), "97.3\u202f%", "۹۷٫۳٪"),
        (lambda words: words.percent(None), "–", "–"),
        (lambda words: words.points(-0.0264), "−2.6", "−۲٫۶"),
        (lambda words: words.points(0.03), "+3.0", "+۳٫۰"),
        (lambda words: words.number(1234.5, 2), "1234.50", "۱۲۳۴٫۵۰"),
        (lambda words: words.grouped(10_000), "10\u202f000", "۱۰٬۰۰۰"),
        (lambda words: words.listing(["a", 2]), "a, 2", "a، 2"),
        (lambda words: words.emotion("fear"), "fear", "ترسیده"),
        (lambda words: words.emotion("bored"), "bored", "bored"),
        (
            lambda words: words.text("interval.range", low=95, high=99),
            "95 to 99",
            "۹۵ تا ۹۹",
        ),
        (
            lambda words: words.time(datetime(2026, 11, 26, 7, 5, tzinfo=UTC)),
            "26 November 2026, 07:05 UTC",
            "۲۶ نوامبر ۲۰۲۶، ساعت ۰۷:۰۵ به وقت جهانی",
        ),
    ],
)
def test_numbers_and_names_in_both_languages(value, english, persian):
    assert value(ENGLISH) == english
    assert seen(value(PERSIAN)) == persian


def test_latin_names_are_isolated_in_persian_only():
    assert PERSIAN.isolated("scratch") == "\u2068scratch\u2069"
    assert PERSIAN.isolated("۹۷٫۳٪") == "۹۷٫۳٪" and ENGLISH.isolated("scratch") == "scratch"


def test_a_text_for_the_terminal_has_no_isolates():
    verdict = PERSIAN.text(
        "verdict.not_compared", first=PERSIAN.isolated("a"), second="b", reason=""
    )
    assert console.printable(verdict) != verdict
    plain = PERSIAN.for_terminal(verdict)
    assert console.printable(plain) == plain and plain.startswith("a و b")


def test_every_emotion_has_a_name_in_every_language():
    codes = LanguageCode.__args__[0].__args__ if hasattr(LanguageCode, "__args__") else ("en", "fa")
    assert tuple(codes) == emotions.LANGUAGES
    assert set(emotions.by_language()["fa"]) == set(emotions.by_language()["en"])
