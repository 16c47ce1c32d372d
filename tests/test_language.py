"""Phrases that a reader would have to decode do not occur in the repository (docs/style.md)."""

import re
from pathlib import Path

import pytest

from tests import documented

ROOT = Path(__file__).parents[1]
PHRASES = (
    r"told from nothing",
    r"\ba (row|shard|line|fold|video|person) a(n|ny)? \w",
    r"\bmend(s|ed|ing)?\b",
    r"on both sides of (a|the) (fold|split)",
    r"taught or chosen",
    r"\bholds? no\b",
    r"give the same command",
    r"\bstands? apart\b",
    r"\bwhere there (is|are) none\b",
    r"\bcounts? for nothing\b",
    r"\bgave nothing\b",
    r"\bgoes on with\b",
    r"\bdecides? alone\b",
    r"\bdone already\b",
    r"\bof the training side\b",
    r"\bhead of this file\b",
    r"\b(is|are) told\b",
    r"\btaught\b",
    r"\bwant of\b",
    r"\banew\b",
    r"\bmodel of everyone\b",
    r"\bms a (step|frame|face)\b",
    r"\b(one|bars?|crops|cells|columns|negatives|studies) an? (class|crop|row|side|video|design)\b",
    r"\blies? (in|inside|within|below)\b",
    r"\b(serve|model|server|test|run|file|video) goes on\b",
    r"\bbeside it\b",
    r"\btells? .* apart\b",
)
EXEMPT = {"docs/style.md", "tests/test_language.py"}


def texts() -> list[Path]:
    names = documented.repository_files("*.py", "*.md", "*.jinja", "Makefile")
    return [ROOT / name for name in names if name not in EXEMPT]


@pytest.mark.parametrize("phrase", PHRASES)
def test_the_phrase_does_not_occur(phrase):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(phrase, line, re.IGNORECASE)
    ]
    assert not found


def test_the_search_reads_code_and_documents():
    names = {path.name for path in texts()}
    assert {"README.md", "launch.py", "results.md", "report.html.jinja"} <= names
