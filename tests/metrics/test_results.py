import json
import re

import pytest

from fer_jax.metrics import results
from tests.metrics.simulation import LABELS, from_table, simulate


def run(name, **options):
    return from_table(name, *simulate(**options), "table")


def test_results_are_valid_json_and_start_with_the_main_run():
    runs = {"a": run("a", seed=1), "b": run("b", seed=2, no_face=0.05)}
    measured = results.evaluate(runs, "b", samples=200, seed=0)
    json.dumps(measured, allow_nan=False)
    assert list(measured["runs"]) == ["b", "a"]
    b = measured["runs"]["b"]
    assert b["accuracy"]["low"] <= b["accuracy"]["value"] <= b["accuracy"]["high"]
    assert b["worst_person"]["accuracy"] == b["per_person"][0]["accuracy"]
    (other,) = measured["comparisons"]
    expected = b["accuracy"]["value"] - measured["runs"]["a"]["accuracy"]["value"]
    assert other["difference"]["accuracy"]["value"] == pytest.approx(expected)
    discordant = other["mcnemar"]["only_first"] - other["mcnemar"]["only_second"]
    assert discordant / b["photographs"] == pytest.approx(expected)


def test_results_do_not_depend_on_the_order_of_rows():
    table, protocol = simulate(seeds=(0, 1), no_face=0.05)
    shuffled = table.sample(frac=1.0, random_state=0)
    first, second = (
        results.describe(from_table("a", t, protocol, "table"), samples=100, seed=0)
        for t in (table, shuffled)
    )
    assert first == second


def reason(first, second):
    found = results.compare(first, second, samples=10, seed=0)
    assert not found["comparable"]
    return found["reason"]


def test_runs_that_are_not_compared_say_what_differs():
    table, protocol = simulate(people=4)

    def other(**columns):
        return from_table("b", table.assign(**columns), protocol, "table")

    first = from_table("a", table, protocol, "table")
    folds = reason(run("a", protocol="grouped_kfold"), run("b"))
    assert re.fullmatch(
        r"\d+ photographs have a different fold in each run \(e\.g\. p\d\d/\w+/\d+\.jpg\)", folds
    )
    assert reason(run("a", seeds=(0, 1)), run("b")) == "their seeds differ (0, 1 and 0)"
    fewer = from_table("b", table[table["subject"] != "p01"], protocol, "table")
    reported = "8 photographs of 1 person are only in a (e.g. p01/angry/8.jpg)"
    assert reason(first, fewer) == reason(fewer, first) == reported
    swapped = table["subject"].where(table.index != 3, "p03")
    assert reason(first, other(subject=swapped)) == (
        f"1 photograph has a different person in each run (e.g. {table['photo'][3]})"
    )
    happy = table["emotion"].where(table.index != 0, "happy")
    assert "1 photograph has a different emotion" in reason(first, other(emotion=happy))
    both = reason(
        run("a", people=4, seeds=(0, 1)), other(photo=["x.jpg", *table["photo"].iloc[1:]])
    )
    assert both == (
        "their seeds differ (0, 1 and 0); 1 photograph of 1 person is only in a "
        "(e.g. p00/angry/0.jpg); 1 photograph of 1 person is only in b (e.g. x.jpg)"
    )


def test_runs_of_different_emotions_name_them():
    table, protocol = simulate()
    kept = table[table["emotion"] != "sad"].copy()
    scores = kept[[f"prob_{name}" for name in LABELS[:3]]]
    kept[scores.columns] = scores.div(scores.sum(axis=1), axis=0)
    three = from_table("b", kept, {**protocol, "labels": list(LABELS[:3])}, "table")
    assert reason(run("a"), three) == (
        "their emotions differ (angry, happy, neutral, sad and angry, happy, neutral)"
    )


def test_person_relative_runs_are_compared_only_with_the_same_reference():
    table, protocol = simulate()
    usual, balanced, mean = (
        from_table(name, table, {**protocol, "reference": name}, "table")
        for name in ("", "balanced", "mean")
    )
    for first, second in ((usual, balanced), (balanced, usual), (mean, balanced)):
        found = results.compare(first, second, samples=50, seed=0)
        assert not found["comparable"] and "person-relative" in found["reason"]
    assert results.compare(balanced, balanced, samples=50, seed=0)["comparable"]
    assert results.unseen(usual) == "never seen" and results.unseen(balanced) == "held out"


def test_runs_that_are_not_person_disjoint_are_stamped():
    assert results.stamps(run("a")) == []
    assert [s["title"] for s in results.stamps(run("a", protocol="random"))] == ["Random split"]
    table, protocol = simulate(protocol="random")
    false_protocol = {**protocol, "protocol": "grouped_kfold", "people_disjoint": True}
    (stamp,) = results.stamps(from_table("a", table, false_protocol, "table"))
    assert stamp["title"] == "People in both train and test"
    assert "15 people" in stamp["text"]
    table, protocol = simulate()
    seen = {**protocol, "pretraining": "jigsaw", "pretraining_saw_test_people": True}
    (stamp,) = results.stamps(from_table("a", table, seen, "table"))
    assert stamp["title"] == "Pretraining saw test people"


def test_unseen_says_whether_people_are_new_to_the_model():
    table, protocol = simulate()

    def unseen(**facts):
        return results.unseen(from_table("a", table, {**protocol, **facts}, "table"))

    assert unseen() == "never seen"
    assert unseen(pretraining="x", pretraining_saw_test_people=False) == "never seen"
    assert unseen(pretraining="x", pretraining_saw_test_people=None) == "held out"
    assert unseen(pretraining="x", pretraining_saw_test_people=True) == "not held out"
    assert unseen(init="pretrained") == "held out"
    assert unseen(leaks={"same_person": 1}) == "not held out"
