"""The ledger is honoured, and what is wrong with it is told with file and line."""

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
