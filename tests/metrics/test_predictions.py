import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.metrics.predictions import read_predictions
from tests.metrics.simulation import LABELS, from_table, simulate, write_run


def test_the_answer_is_the_most_probable_class_or_no_face():
    table, protocol = simulate(people=4, no_face=0.2)
    read = from_table("a", table, protocol, "table")
    lost = (table["status"] == "no_face").to_numpy()
    assert lost.sum() == read.no_face.sum() > 0
    assert (read.predicted[lost] == len(LABELS)).all()
    best = table.loc[~lost, [f"prob_{label}" for label in LABELS]].to_numpy().argmax(axis=1)
    np.testing.assert_array_equal(read.predicted[~lost], best)
    assert [LABELS[t] for t in read.truth] == table["emotion"].tolist()


def test_people_tested_in_several_folds_are_found():
    for protocol, many in (("grouped_kfold", 0), ("random", 15)):
        read = from_table("a", *simulate(protocol=protocol, seeds=(0, 1)), "table")
        assert len(read.people_in_several_folds()) == many


def test_all_problems_of_a_table_are_reported_in_one_line(tmp_path):
    table, protocol = simulate(people=3)
    table.loc[0, "emotion"] = "bored"
    table.loc[1, "status"] = "lost"
    table.loc[2, "prob_sad"] = np.nan
    table.loc[4, "photo"] = table.loc[3, "photo"]
    with pytest.raises(UserError) as caught:
        read_predictions("a", write_run(tmp_path / "run", table, protocol))
    for words in (
        "bored",
        "unknown status (lost)",
        "1 photographs with a face but",
        "tested twice",
    ):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [5.0, -0.1, 0.0])
def test_invalid_probabilities_are_refused(value):
    table, protocol = simulate(people=3, no_face=0.2)
    rows = table.index[table["status"] == "ok"][:2]
    table.loc[rows, "prob_happy"] = value
    with pytest.raises(UserError, match="2 photographs whose probabilities are not between 0 and"):
        from_table("a", table, protocol, "table")


def test_seeds_must_test_the_same_photographs():
    table, protocol = simulate(people=3, seeds=(0, 1))
    with pytest.raises(UserError, match="seeds test different photographs"):
        from_table("a", table.iloc[1:], protocol, "table")


def test_missing_columns_and_a_missing_file_are_user_errors(tmp_path):
    table, protocol = simulate(people=3)
    with pytest.raises(UserError, match="columns fold, prob_sad are missing"):
        from_table("a", table.drop(columns=["fold", "prob_sad"]), protocol, "table")
    with pytest.raises(UserError, match=r"no predictions\.parquet in .*; replace this folder"):
        read_predictions("a", tmp_path)


def test_damaged_and_unknown_files_are_reported_in_one_line(tmp_path):
    table, protocol = simulate(people=3)
    texts = table.assign(prob_sad="much")
    numbers = table.assign(fold="first")
    for number, (changed, changed_protocol) in enumerate(
        [
            (table, {}),
            (table, {"labels": "happy"}),
            (texts, protocol),
            (numbers, protocol),
            (table.assign(subject=None), protocol),
        ]
    ):
        folder = write_run(tmp_path / str(number), changed, changed_protocol)
        with pytest.raises(UserError, match=r"cannot read|damaged or invalid") as caught:
            read_predictions("a", folder)
        assert "\n" not in str(caught.value)
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot read the table"):
        read_predictions("a", folder)
