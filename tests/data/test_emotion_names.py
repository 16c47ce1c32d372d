"""Aliases of emotions: which names are read as which emotion."""

import pytest

from fer_jax.data import names
from fer_jax.data.emotion_names import EmotionNames, is_alias
from fer_jax.languages import emotions

FOUR = ("angry", "happy", "neutral", "sad")


@pytest.mark.parametrize(
    ("emotion", "aliases"),
    [
        ("neutral", ["normal", "خنثی", "خنثي", "بی‌حالت", "بی حالت", "بيحالت"]),
        ("angry", ["anger", "ANGER", "خشم", "عصبانی", "عصباني", "خشمگین"]),
        ("sad", ["sadness", "غمگین", "غمگين", " غمگین "]),
        ("happy", ["Happiness", "خوشحال", "خوش‌حال", "خوش حال", "شاد"]),
        ("surprise", ["surprised", "شگفت‌زده", "شگفت زده"]),
    ],
)
def test_an_alias_is_read_as_its_emotion(emotion, aliases):
    known = EmotionNames((*FOUR, "surprise"))
    assert {known.find(alias) for alias in [emotion, *aliases]} == {emotion}


def test_an_emotion_of_the_config_keeps_its_own_name():
    known = EmotionNames(("خوشحال", "anger"), ignore=("Sadness",))
    assert known.find("happy") == "خوشحال" and known.find("angry") == "anger"
    assert known.find("غمگین") is None


def test_a_name_in_the_config_comes_before_an_alias():
    assert EmotionNames(("angry",), ignore=("anger",)).find("anger") is None
    assert EmotionNames(("angry",), ignore=("anger",)).find("خشم") == "angry"


def test_two_emotions_with_the_same_aliases_are_read_under_their_own_names_only():
    known = EmotionNames(("happy", "joy"))
    assert (known.find("happy"), known.find("Joy")) == ("happy", "joy")
    with pytest.raises(KeyError):
        known.find("happiness")


def test_an_unknown_name_is_an_error_with_the_nearest_name():
    known = EmotionNames(FOUR)
    for unknown in ("hapy", "fear", "very happy indeed"):
        with pytest.raises(KeyError):
            known.find(unknown)
    assert known.suggestion("hapy") == " (did you mean 'happy'?)"
    assert known.suggestion("Hapiness") == " (did you mean 'happiness'?)"
    assert known.suggestion("غمگن") == " (did you mean 'غمگین'?)"
    assert known.suggestion("smug") == ""


def test_another_spelling_is_not_an_alias():
    assert is_alias("anger", "angry") and not is_alias("Angry ", "angry")


def test_no_name_stands_for_two_emotions():
    found = [
        names.key(name).replace(" ", "")
        for label, emotion in emotions.table().items()
        for name in {label, *emotion.names.values(), *emotion.aliases}
    ]
    assert len(found) == len(set(found))
