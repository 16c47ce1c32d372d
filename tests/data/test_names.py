"""All spellings of a name have the same key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_jax.data import names

persian = st.text(st.characters(min_codepoint=0x600, max_codepoint=0x6FF) | st.characters())


@given(persian)
def test_the_key_of_a_key_is_the_key(name):
    assert names.key(names.key(name)) == names.key(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u202bعلی\u202c", "علی"),
        ("\ufeffann", "ann"),
        ("ﻋﻠﻲ", "علی"),
        ("فاطمة", "فاطمه"),
        ("أمیر", "امیر"),
        ("رئیس", "رییس"),
        ("ａｎｎ", "ann"),
        ("a\u3164nn", "ann"),
        ("ann\U000e0100", "ann"),
        ("ann \u00a0 lee", "Ann Lee"),
    ],
)
def test_spellings_of_a_name_have_the_same_key(one, other):
    assert names.key(one) == names.key(other)


def test_a_name_in_a_message_is_short_and_escapes_invisible_characters():
    assert names.shown("a\u200cb") == r"'a\u200cb'"
    assert len(names.shown("n" * 9000)) < 90
