import re
from html.parser import HTMLParser

import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.languages.language import language
from fer_jax.metrics import results
from fer_jax.report import page
from fer_jax.report.gallery import Map, Shown
from tests.metrics.simulation import from_table, simulate, write_stage

OWN = page.StageRecord("evaluate", "out", {}, {}, {})
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects references and scripts, and checks that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.scripts, self.ids = [], [], 0, []

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        for name, value in attributes:
            self.scripts += name.startswith("on")
            if name in {"src", "href", "xlink:href", "data", "action", "srcset"}:
                self.references.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def rendered(stages=(), own=None, **options):
    first = from_table("pretrained", *simulate(seed=1, **options), "table")
    second = from_table("scratch", *simulate(seed=2, **options), "table")
    measured = results.evaluate(
        {"pretrained": first, "scratch": second}, "pretrained", samples=100, seed=0
    )
    own = own or page.StageRecord("evaluate", "out", {}, {}, {})
    return measured, page.render(measured, stages, own)


def rendered_in_persian(**options):
    measured, _ = rendered(**options)
    face = Shown("data:image/jpeg;base64,AAAA", "happy", "sad", 0.9, "p01", True)
    places = np.random.default_rng(0).normal(size=(20, 2))
    alike = Map(places, ["happy", "sad"] * 10, [f"p{i % 5}" for i in range(20)], 0.1, 0.6)
    faces = {"wrong": [face], "right": [face]}
    return page.render(measured, [], OWN, faces, alike, language("fa"))


def rendered_with(**facts):
    table, protocol = simulate()
    run = from_table("a", table, {**protocol, **facts}, "table")
    return page.render(results.evaluate({"a": run}, "a", samples=50, seed=0), [], OWN)


def test_text_is_escaped_in_the_model_card_and_the_datasheet():
    hostile = "<script>alert(1)</script> ![x](http://x/y.png) a | b\n# head"
    table, protocol = simulate()
    protocol = {**protocol, "pretraining": hostile, "init": "pretrained"}
    labels = protocol["labels"]
    protocol["labels"] = [*labels[:-1], hostile]
    table = table.rename(columns={f"prob_{labels[-1]}": f"prob_{hostile}"})
    table["emotion"] = table["emotion"].replace(labels[-1], hostile)
    measured = results.evaluate(
        {"a": from_table("a", table, protocol, "table")}, "a", samples=50, seed=0
    )
    for name in ("model_card", "datasheet"):
        text = page.render_card(name, measured, [], OWN)
        assert "&lt;script&gt;alert(1)" in text and "<" not in text
        assert r"!\[x\](http" in text and "\n# head" not in text
        rows = [line for line in text.splitlines() if "alert(1)" in line and line[:1] == "|"]
        assert len(rows) == (2 if name == "model_card" else 0)
        assert all(r"a \| b" in row for row in rows)


@pytest.mark.parametrize("people", [2, 15, 70])
def test_the_report_is_well_formed_and_self_contained(people):
    _, html = rendered(people=people, no_face=0.05)
    parsed = Page()
    parsed.feed(html)
    assert parsed.open == []
    assert parsed.scripts == 0
    assert all(r.startswith(("#", "data:")) for r in parsed.references)
    assert "://" not in html
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "default-src 'none'" in html
    assert len(html) < 500_000


def test_the_report_contains_the_figures_of_metrics_json():
    measured, html = rendered(no_face=0.05)
    for run in measured["runs"].values():
        for bound in run["accuracy"].values():
            assert f"{100 * bound:.1f}\u202f%" in html
    assert page.verdict(measured["comparisons"][0]) in html
    for person in measured["runs"]["pretrained"]["per_person"]:
        assert f'<td class="name">{person["subject"]}</td>' in html
    assert "EU AI Act" in html


def test_only_a_random_split_is_stamped():
    assert 'class="stamp"' in rendered(protocol="random")[1]
    assert "both train and test" not in rendered()[1].lower()
    assert "never seen</h1>" in rendered()[1]
    assert "never seen</h1>" not in rendered(protocol="random")[1]
    assert 'class="stamp"' not in rendered()[1]


def test_a_person_relative_run_states_its_use_of_test_photographs():
    html = rendered_with(reference="balanced")
    assert "Person-relative: uses all photographs of the test person without" in html
    assert "k-fold by people, person-relative" in html or "person-relative</dd>" in html
    html = rendered_with(reference="neutral", reference_photographs=7, without_reference=2)
    assert "7 reference photographs are not tested, and 2 people" in html
    assert "erson-relative" not in rendered_with()


def test_unknown_pretraining_data_are_mentioned():
    table, protocol = simulate()
    for saw, words in ((None, True), (False, False)):
        facts = {**protocol, "pretraining": "jigsaw", "pretraining_saw_test_people": saw}
        run = from_table("a", table, facts, "table")
        measured = results.evaluate({"a": run}, "a", samples=50, seed=0)
        html = page.render(measured, [], OWN)
        assert ("It was not recorded" in html) == words
        assert ("people held out</h1>" in html) == words
        assert ("people never seen</h1>" in html) == (not words)


def test_people_are_only_held_out_for_an_undescribed_pretrained_network():
    table, protocol = simulate()
    run = from_table("a", table, {**protocol, "init": "pretrained"}, "table")
    html = page.render(results.evaluate({"a": run}, "a", samples=50, seed=0), [], OWN)
    assert "people held out</h1>" in html and "without a description" in html


def test_an_allowed_leak_is_stamped_in_the_report_and_the_model_card():
    table, protocol = simulate()
    facts = {**protocol, "leaks": {"near_duplicate": 3}, "allowed_leaks": ["near_duplicate"]}
    measured = results.evaluate(
        {"a": from_table("a", table, facts, "table")}, "a", samples=50, seed=0
    )
    html = page.render(measured, [], OWN)
    assert "Leak allowed: near_duplicate" in html and "never seen</h1>" not in html
    assert "Leak allowed: near_duplicate" in page.render_card("model_card", measured, [], OWN)
    assert "none found by the audit" in rendered_with(leaks={})
    assert "not searched for" in rendered()[1]


def test_model_card_and_datasheet_contain_the_figures_of_metrics_json():
    measured, _ = rendered(no_face=0.05)
    card = page.render_card("model_card", measured, [], OWN)
    accuracy = measured["runs"]["pretrained"]["accuracy"]
    for value in accuracy.values():
        assert f"{100 * value:.1f}\u202f%" in card
    assert "article 5" in card and "{{" not in card
    sheet = page.render_card("datasheet", measured, [], OWN)
    assert "15 people, 120 photographs" in sheet and "{{" not in sheet


@pytest.mark.parametrize("features", [["backbone"], ["backbone", "gradients"]])
def test_the_model_card_says_that_the_measured_models_were_made_in_the_same_way(features):
    table, protocol = simulate()
    run = from_table("a", table, {**protocol, "features": features}, "table")
    measured = results.evaluate({"a": run}, "a", samples=50, seed=0)
    assert "made in the same way" in page.render_card("model_card", measured, [], OWN)


def test_faces_and_their_map_are_in_the_page():
    measured, _ = rendered()
    face = Shown("data:image/jpeg;base64,AAAA", "happy", "sad", 0.9, "p01", True)
    places = np.random.default_rng(0).normal(size=(20, 2))
    alike = Map(places, ["happy", "sad"] * 10, [f"p{i % 5}" for i in range(20)], 0.1, 0.6)
    html = page.render(measured, [], OWN, {"wrong": [face], "right": []}, alike)
    parsed = Page()
    parsed.feed(html)
    assert parsed.open == [] and len(parsed.ids) == len(set(parsed.ids))
    assert "data:image/jpeg;base64,AAAA" in parsed.references
    assert "The most confident mistakes" in html and "confident correct answers" not in html
    assert "People are separated better than emotions." in html


def test_summaries_of_stages_are_shown_and_escaped(tmp_path):
    folder = write_stage(tmp_path / "x", "extract", {"faces": 950, "note": "<script>1</script>"})
    rendering = write_stage(tmp_path / "r", "render", {"frames_per_s": 61.2})
    again = str(rendering / ".." / folder.name)
    _, html = rendered(page.read_stages([str(folder), str(rendering), str(folder), again]))
    assert html.count("<span>faces</span> 950") == 1
    assert "61.2 frames/s" in html
    assert "drawn by a program" in html
    assert "<script" not in html and "&lt;script&gt;" in html


def test_an_unfinished_stage_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no finished stage"):
        page.read_stages([str(tmp_path)])


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.05, 0.01, 0.09, "a is better than b by 5.0 points"),
        (-0.05, -0.09, -0.01, "b is better than a by 5.0 points"),
        (
            0.05,
            -0.01,
            0.09,
            "a is ahead of b by 5.0 points of accuracy, but the difference is not significant",
        ),
        (0.0, -0.02, 0.02, "have the same accuracy"),
    ],
)
def test_the_verdict_follows_from_the_interval(value, low, high, words):
    difference = {"accuracy": {"value": value, "low": low, "high": high}}
    comparison = {"first": "a", "second": "b", "comparable": True, "difference": difference}
    assert words in page.verdict(comparison)


@pytest.mark.parametrize(
    "options",
    [{"no_face": 0.05}, {"protocol": "random"}, {"people": 70, "seeds": (0, 1)}, {"people": 5}],
)
def test_a_persian_report_has_no_english_text(options):
    html = rendered_in_persian(**options)
    assert '<html lang="fa" dir="rtl">' in html
    parsed = Page()
    parsed.feed(html)
    assert parsed.open == [] and len(parsed.ids) == len(set(parsed.ids))
    body = html[html.index("<title>") : html.index("<style>")] + html[html.index("<body>") :]
    for text in language("en").texts.values():
        for part in re.split(r"\{\w+\}|<[^>]+>", text):
            words = part.strip(" .,:;()·%")
            if len(words) > 3 and words not in ("fer_jax", "Macro-F1", "macro-F1", "pretrained"):
                assert f">{words}<" not in body, words
                assert len(words) < 12 or words not in body, words
    for label in ("angry", "happy", "neutral", "sad"):
        assert f">{label}<" not in body
    assert "خشمگین" in body and "بازهٔ ۹۵٪" in body


def test_numbers_of_a_persian_report_are_those_of_metrics_json():
    measured, _ = rendered(no_face=0.05)
    html = page.render(measured, [], OWN, words=language("fa"))
    for run in measured["runs"].values():
        for bound in run["accuracy"].values():
            assert language("fa").percent(bound) in html
    verdict = page.verdict(measured["comparisons"][0], language("fa"))
    assert verdict in html and "\u2068pretrained\u2069" in verdict


def test_names_are_escaped_in_a_persian_report():
    first = from_table("<b>a", *simulate(seed=1), "table")
    second = from_table("<i>b", *simulate(seed=2), "table")
    measured = results.evaluate({"<b>a": first, "<i>b": second}, "<b>a", samples=50, seed=0)
    for words in (language("en"), language("fa")):
        html = page.render(measured, [], OWN, words=words)
        assert "<b>a" not in html and "<i>b" not in html and "&lt;i&gt;b" in html
