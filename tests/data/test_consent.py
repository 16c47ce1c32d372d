"""The consent ledger is applied, and its problems are reported with file and line."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer_jax.data.labels import files_read, read_labels
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


def test_people_without_consent_or_with_a_revocation_are_skipped(photos):
    ledger(photos, "ann,yes,yes,no,", "bob,no,no,no,", "cid,no,yes,no,2026-03-01")
    frame = read_labels(photos, EMOTIONS)
    assert set(frame["subject"]) == {"ann"}
    assert frame["share"].all()
    assert frame.attrs["withheld"] == 4
    assert any("photographs skipped: 4, of 2 people" in w for w in frame.attrs["warnings"])
    ledger(photos, "ann,no,Yes,no,no", "bob,YES,1,0,", "cid,no,true,no,")
    frame = read_labels(photos, EMOTIONS)
    assert frame.groupby("subject")["share"].all().to_dict() == {
        "ann": False, "bob": True, "cid": False,
    }  # fmt: skip


def test_without_a_ledger_nobody_is_skipped_and_nobody_shares(photos):
    frame = read_labels(photos, EMOTIONS)
    assert len(frame) == 6 and not frame["share"].any()


def test_every_problem_is_reported_with_file_and_line(photos):
    ledger(photos, "ann,maybe,yes,no,", "bob,no,yes,no,yesterday", "ann,no,yes,no,", ",no,no,no,")
    with pytest.raises(UserError) as caught:
        read_labels(photos, EMOTIONS)
    reported = str(caught.value)
    for words in ("line 2: share is 'maybe'", "line 3: revoked is 'yesterday'", "line 5: the subj"):
        assert f"consent.csv, {words}" in reported
    ledger(photos, "ann,no,yes,no,", "ann,no,yes,no,", "bob,no,yes,no,")
    with pytest.raises(UserError, match=r"line 3: 'ann' is already listed in .*line 2"):
        read_labels(photos, EMOTIONS)
    ledger(photos, "ann,no,yes,no,", "bob,no,yes,no,")
    with pytest.raises(UserError, match=r"the subject 'cid' has no row in .*consent.csv"):
        read_labels(photos, EMOTIONS)
    (photos / "consent.csv").write_text("subject,share\nann,yes\n")
    with pytest.raises(UserError, match="line 1: the header lacks train, demo, revoked"):
        read_labels(photos, EMOTIONS)


def test_it_is_an_error_if_nobody_consents(photos):
    ledger(photos, *(f"{name},no,no,no," for name in ("ann", "bob", "cid")))
    with pytest.raises(
        UserError, match=r"consent\.csv has no valid consent \(train=yes, not revoked\)"
    ):
        read_labels(photos, EMOTIONS)


def test_pseudonyms_are_stable_and_do_not_reveal_names(photos):
    labels = read_labels(photos, EMOTIONS)
    first = pseudonymise(labels, photos)
    again = pseudonymise(read_labels(photos, EMOTIONS), photos)
    pd.testing.assert_frame_equal(first, again)
    assert first["photo"].is_unique and first["subject"].nunique() == 3
    reported = first[["photo", "subject"]].to_csv()
    assert not any(name in reported for name in ("ann", "bob", "cid"))
    known = read_pseudonyms(photos)
    assert labels["subject"].map(known).tolist() == first["subject"].tolist()


@pytest.mark.parametrize(
    "kind", ["broken link", "folder", "pipe", "other case", "cut off", "utf-16"]
)
def test_an_incomplete_ledger_is_an_error(photos, kind):
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
def test_a_ledger_row_with_too_many_or_too_few_fields_is_refused(photos, row):
    ledger(photos, row, "bob,no,yes,no,", "cid,no,yes,no,")
    with pytest.raises(UserError, match=r"consent.csv, line 2: (more|fewer) fields"):
        read_labels(photos, EMOTIONS)


def test_a_revocation_applies_to_every_spelling_of_the_name(photos):
    (photos / "ann").rename(photos / "علی")
    ledger(photos, "علي,no,yes,no,yes", "BOB,no,yes,no,", "cid,no,yes,no,")
    assert set(read_labels(photos, EMOTIONS)["subject"]) == {"bob", "cid"}
    ledger(photos, "علي,no,yes,no,yes", "علی,no,yes,no,", "bob,no,yes,no,", "cid,no,yes,no,")
    with pytest.raises(UserError, match=r"line 3: 'علی' is already listed in .*line 2 as 'علي'"):
        read_labels(photos, EMOTIONS)


def test_concurrent_runs_lose_no_pseudonyms(photos):
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
        ("ann,s1\nbob,s1", "line 3: the pseudonym s1 is already in .*line 2"),
        ("ann,s1\nbob,S1", "line 3: the pseudonym s1 is already"),
        ("ann,s1\nann,s2", "line 3: the subject ann is already"),
        ("علي,s1\nعلی,s2", "line 3: the subject علی is already"),
        ("ann,", "line 2: the pseudonym is empty"),
        ("ann,s1,s2", "line 2: more fields"),
        (
            "ann,../../../../x",
            "line 2: the pseudonym '../../../../x' starts with a dot",
        ),
        ("ann,/x", "contains a slash"),
    ],
)
def test_an_ambiguous_table_of_pseudonyms_is_refused(photos, rows, words):
    text = f"subject,pseudonym\n{rows}\n"
    (photos / "pseudonyms.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        pseudonymise(read_labels(photos, EMOTIONS), photos)
    assert (photos / "pseudonyms.csv").read_text() == text


@pytest.mark.parametrize(
    "name",
    [
        "consent.xlsx",
        "consent.csv.txt",
        "consent (1).csv",
        "Consents-2026.csv",
        "ann/consent.csv",
        "../consent.csv",
    ],
)
def test_a_misnamed_or_misplaced_ledger_is_an_error(photos, name):
    (photos / name).write_text("subject,share,train,demo,revoked\nann,no,yes,no,yes\n")
    with pytest.raises(UserError, match=r"looks like a consent ledger|a ledger here is not read"):
        read_labels(photos, EMOTIONS)


def test_a_misplaced_ledger_is_found_whatever_the_form_of_the_path(photos, monkeypatch):
    (photos.parent / "consent.csv").write_text("subject,share,train,demo,revoked\n")
    monkeypatch.chdir(photos / "ann")
    assert photos.parent / "consent.csv" in files_read("..")
    with pytest.raises(UserError, match="a ledger here is not read"):
        read_labels("..", EMOTIONS)


def test_two_ledgers_whose_names_differ_in_case_are_an_error(photos):
    ledger(photos, *(f"{name},no,yes,no," for name in ("ann", "bob", "cid")))
    (photos / "Consent.csv").write_text("subject,share,train,demo,revoked\n")
    with pytest.raises(UserError, match=r"Consent\.csv: the table must be called consent\.csv"):
        read_labels(photos, EMOTIONS)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("subject,share,train,demo,revoked,", "column 6 has no name"),
        ("subject,share,train,demo,revoked,Revoked", "the header contains revoked twice"),
        ("subject,share,train,demo,revoked,withdrawn", "unknown column 'withdrawn'"),
    ],
)
def test_an_unknown_column_that_may_be_a_revocation_is_refused(photos, header, words):
    rows = ("ann,no,yes,no,,", "bob,no,yes,no,,", "cid,no,yes,no,,yes")
    (photos / "consent.csv").write_text("\n".join((header, *rows)))
    with pytest.raises(UserError, match=f"consent.csv, line 1: .*{words}"):
        read_labels(photos, EMOTIONS)


def test_a_missing_quote_does_not_hide_rows(photos):
    text = 'subject,share,train,demo,revoked,note\nann,no,yes,no,,"a\nbob,no,yes,no,yes,b"\n'
    (photos / "consent.csv").write_text(text + "cid,no,yes,no,,\n")
    with pytest.raises(
        UserError, match="line 3: the note contains a line break and a comma; add the missing quote"
    ):
        read_labels(photos, EMOTIONS)


def test_notes_and_persian_dates_are_read(photos):
    rows = ('ann,no,yes,no,,"asked by\npost"', "bob,no,yes,no,,", "cid,no,yes,no,۱۴۰۴-۱۲-۱۰,")
    (photos / "consent.csv").write_text(
        "\n".join(("subject,share,train,demo,revoked,note", *rows)), encoding="utf-8"
    )
    assert set(read_labels(photos, EMOTIONS)["subject"]) == {"ann", "bob"}


def test_a_ledger_without_read_permission_is_an_error(photos, monkeypatch):
    ledger(photos)

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot read .*consent\.csv \(Permission denied\)"):
        read_labels(photos, EMOTIONS)


def test_adding_pseudonyms_preserves_the_rest_of_the_table(photos, tmp_path):
    """Columns, byte order mark, line ends, permissions and the symbolic link are unchanged."""
    real = tmp_path / "safe.csv"
    before = '\ufeffSubject,note,Pseudonym\r\n"ann",left,k7'.encode()
    real.write_bytes(before)
    real.chmod(0o600)
    (photos / "pseudonyms.csv").symlink_to(real)
    ids = dict(pseudonymise(read_labels(photos, EMOTIONS), photos)["subject"].items())
    assert ids[0] == "k7" and (photos / "pseudonyms.csv").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert real.read_bytes() == before + f"\r\nbob,,{ids[2]}\r\ncid,,{ids[4]}\r\n".encode()


def test_a_broken_link_to_the_table_of_pseudonyms_is_an_error(photos):
    (photos / "pseudonyms.csv").symlink_to(photos / "absent.csv")
    with pytest.raises(UserError, match="is a link to a file that does not exist"):
        pseudonymise(read_labels(photos, EMOTIONS), photos)


def test_a_pseudonym_that_is_the_name_of_another_subject_is_refused(photos):
    (photos / "pseudonyms.csv").write_text("subject,pseudonym\nann,Bob\n")
    with pytest.raises(UserError, match="the pseudonym 'Bob' is the name of another subject"):
        pseudonymise(read_labels(photos, EMOTIONS), photos)
