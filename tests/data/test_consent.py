"""The ledger is honoured, and what is wrong with it is told with file and line."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer_jax.data.labels import read_labels
from fer_jax.data.pseudonyms import pseudonymise, read_pseudonyms
from fer_jax.errors import UserError

EMOTIONS = ("angry", "happy", "neutral", "sad")


@pytest.fixture
def photos(tmp_path):
    """Three people with two photographs each."""
    rng = np.random.default_rng(0)
    for subject in ("ann", "bob", "cid"):
        for emotion in ("happy", "sad"):
            file = tmp_path / "photos" / subject / emotion / "1.png"
            file.parent.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(file)
    return tmp_path / "photos"


def ledger(photos, *rows):
    text = "\n".join(["subject,share,train,demo,revoked", *rows])
    (photos / "consent.csv").write_text(text + "\n")


def test_who_does_not_allow_it_or_has_revoked_is_left_out(photos):
    ledger(photos, "ann,yes,yes,no,", "bob,no,no,no,", "cid,no,yes,no,2026-03-01")
    frame = read_labels(photos, EMOTIONS)
    assert set(frame["subject"]) == {"ann"}
    assert frame["share"].all()
    assert frame.attrs["withheld"] == 4
    assert any("4 photographs of 2 people are left out" in w for w in frame.attrs["warnings"])
    ledger(photos, "ann,no,Yes,no,no", "bob,YES,1,0,", "cid,no,true,no,")
    frame = read_labels(photos, EMOTIONS)
    assert frame.groupby("subject")["share"].all().to_dict() == {
        "ann": False, "bob": True, "cid": False,
    }  # fmt: skip


def test_without_a_ledger_nobody_is_left_out_and_nobody_shares(photos):
    frame = read_labels(photos, EMOTIONS)
    assert len(frame) == 6 and not frame["share"].any()


def test_every_problem_has_its_file_and_line(photos):
    ledger(photos, "ann,maybe,yes,no,", "bob,no,yes,no,yesterday", "ann,no,yes,no,", ",no,no,no,")
    with pytest.raises(UserError) as caught:
        read_labels(photos, EMOTIONS)
    told = str(caught.value)
    for words in ("line 2: share is 'maybe'", "line 3: revoked is 'yesterday'", "line 5: no subje"):
        assert f"consent.csv, {words}" in told
    ledger(photos, "ann,no,yes,no,", "ann,no,yes,no,", "bob,no,yes,no,")
    with pytest.raises(UserError, match=r"line 3: 'ann' stands already in .*line 2"):
        read_labels(photos, EMOTIONS)
    ledger(photos, "ann,no,yes,no,", "bob,no,yes,no,")
    with pytest.raises(UserError, match=r"the subject 'cid' has no row in .*consent.csv"):
        read_labels(photos, EMOTIONS)
    (photos / "consent.csv").write_text("subject,share\nann,yes\n")
    with pytest.raises(UserError, match="line 1: no column train, demo, revoked"):
        read_labels(photos, EMOTIONS)


def test_when_nobody_consents_there_is_nothing_to_build(photos):
    ledger(photos, *(f"{name},no,no,no," for name in ("ann", "bob", "cid")))
    with pytest.raises(UserError, match=r"nobody in consent\.csv consents"):
        read_labels(photos, EMOTIONS)


def test_pseudonyms_are_drawn_once_and_say_nothing(photos):
    labels = read_labels(photos, EMOTIONS)
    first = pseudonymise(labels, photos)
    again = pseudonymise(read_labels(photos, EMOTIONS), photos)
    pd.testing.assert_frame_equal(first, again)
    assert first["photo"].is_unique and first["subject"].nunique() == 3
    told = first[["photo", "subject"]].to_csv()
    assert not any(name in told for name in ("ann", "bob", "cid"))
    known = read_pseudonyms(photos)
    assert labels["subject"].map(known).tolist() == first["subject"].tolist()


@pytest.mark.parametrize(
    "kind", ["broken link", "folder", "pipe", "other case", "cut off", "utf-16"]
)
def test_a_ledger_that_cannot_be_read_completely_stops_the_build(photos, kind):
    file = photos / "consent.csv"
    rows = ("ann,no,yes,no,2026-03-01", "bob,no,yes,no,", "cid,no,yes,no,")
    whole = "\n".join(("subject,share,train,demo,revoked", *rows)) + "\n"
    if kind == "broken link":
        file.symlink_to(photos / "moved.csv")
    elif kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "other case":
        (photos / "Consent.CSV").write_text(whole)
    elif kind == "cut off":
        file.write_text(whole[: whole.index("no,2026")])
    else:
        file.write_text(whole, encoding="utf-16")
    with pytest.raises(UserError, match=r"(?i)consent\.csv"):
        read_labels(photos, EMOTIONS)


@pytest.mark.parametrize(
    "row", ["ann,no,yes,no,,2026-03-01", "ann,,no,yes,no,2026-03-01", "ann,no,yes"]
)
def test_a_row_of_another_length_is_refused(photos, row):
    ledger(photos, row, "bob,no,yes,no,", "cid,no,yes,no,")
    with pytest.raises(UserError, match=r"consent.csv, line 2: (more|fewer) fields"):
        read_labels(photos, EMOTIONS)


def test_a_revocation_counts_for_every_spelling_of_the_name(photos):
    (photos / "ann").rename(photos / "علی")
    ledger(photos, "علي,no,yes,no,yes", "BOB,no,yes,no,", "cid,no,yes,no,")
    assert set(read_labels(photos, EMOTIONS)["subject"]) == {"bob", "cid"}
    ledger(photos, "علي,no,yes,no,yes", "علی,no,yes,no,", "bob,no,yes,no,", "cid,no,yes,no,")
    with pytest.raises(UserError, match=r"line 3: 'علی' stands already in .*line 2, as 'علي'"):
        read_labels(photos, EMOTIONS)


def test_runs_that_draw_ids_at_the_same_time_lose_none(photos):
    labels = read_labels(photos, EMOTIONS)
    people = [labels.assign(subject=f"person {number}").head(2) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda one: pseudonymise(one, photos)["subject"].iloc[0], people))
    known = read_pseudonyms(photos)
    assert [known[f"person {number}"] for number in range(24)] == drawn
    assert len(set(drawn)) == 24


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("ann,s1\nbob,s1", "line 3: the pseudonym s1 stands already in .*line 2"),
        ("ann,s1\nbob,S1", "line 3: the pseudonym s1 stands already"),
        ("ann,s1\nann,s2", "line 3: the subject ann stands already"),
        ("علي,s1\nعلی,s2", "line 3: the subject علی stands already"),
        ("ann,", "line 2: no pseudonym"),
        ("ann,s1,s2", "line 2: more fields"),
        ("ann,../../../../x", "line 2: the pseudonym '../../../../x' starts with a point or holds"),
        ("ann,/x", "holds a slash"),
    ],
)
def test_a_table_of_pseudonyms_that_would_mix_people_up_is_refused(photos, rows, words):
    text = f"subject,pseudonym\n{rows}\n"
    (photos / "pseudonyms.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        pseudonymise(read_labels(photos, EMOTIONS), photos)
    assert (photos / "pseudonyms.csv").read_text() == text
