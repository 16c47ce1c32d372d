"""A name's key is stable: two ways to the same text never end at different keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_jax.data import names

persian = st.text(st.characters(min_codepoint=0x600, max_codepoint=0x6FF) | st.characters())


@given(persian)
def test_the_key_of_a_key_is_itself(name):
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
def test_more_spellings_of_one_name(one, other):
    assert names.key(one) == names.key(other)


def test_a_name_in_a_message_is_short_and_shows_what_is_not_seen():
    assert names.shown("a\u200cb") == r"'a\u200cb'"
    assert len(names.shown("n" * 9000)) < 90
