from collections import Counter

import numpy as np

from fer_jax.people.identity import HAIR_STYLES, _radical_inverse, identity


def test_a_number_determines_a_person_and_people_differ():
    people = [identity(number) for number in range(40)]
    assert people == [identity(number) for number in range(40)]
    assert len({(who.eye_x, who.chin, who.skin) for who in people}) == 40


def test_fifteen_consecutive_people_are_varied():
    for first in (1, 101):
        people = [identity(number) for number in range(first, first + 15)]
        styles = Counter(who.hair_style for who in people)
        assert set(styles) == set(HAIR_STYLES) and max(styles.values()) <= 3
        skin = [np.mean(who.skin) for who in people]
        assert min(skin) < 0.5 and max(skin) > 0.72
        ages = [who.age for who in people]
        assert min(ages) < 0.2 and max(ages) > 0.8
        assert 0 < sum(who.glasses for who in people) < 10
        assert any(who.beard for who in people) and any(not who.beard for who in people)


def test_only_men_have_beards():
    for number in range(60):
        who = identity(number)
        if who.hair_style in ("hijab", "long", "bob"):
            assert who.beard == who.moustache == 0


def test_radical_inverse_mirrors_the_digits():
    assert [_radical_inverse(n, 2) for n in range(5)] == [0, 0.5, 0.25, 0.75, 0.125]
