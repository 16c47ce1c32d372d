"""Links and anchors of all Markdown files, and the menu and the pages of the site."""

import re
import subprocess
import sys
import unicodedata
import urllib.parse
from pathlib import Path

import pytest

from fer_jax import config_files
from tests import documented

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]*\]\((<[^>]*>|[^)\s]+)[^)]*\)|<(?:a|img)[^>]* (?:href|src)=\"([^\"]+)\"")


def markdown_files() -> list[Path]:
    return [ROOT / name for name in documented.repository_files("*.md")]


def prose(text: str) -> str:
    """The text without blocks of code and inline code."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`", text)


def slug(heading: str) -> str:
    """The anchor that GitHub and the site make from a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    kept = "".join(
        letter
        for letter in text.strip().lower()
        if letter in " -_" or unicodedata.category(letter)[0] in "LMN"
    )
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} | {
        *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)
    }


def dead_links(page: Path) -> list[str]:
    """The links of a page to missing files or anchors, or to files outside the repository."""
    dead = []
    for groups in LINK.findall(prose(page.read_text("utf-8"))):
        link = next(filter(None, groups)).strip("<>")
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / urllib.parse.unquote(target)).resolve() if target else page
        missing = anchor and file.suffix == ".md" and file.exists() and anchor not in anchors(file)
        if not file.exists() or missing or not file.is_relative_to(ROOT):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_exist(page):
    assert dead_links(page) == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](b.md) ![d](c.png) [e](https://x)\n")
    assert dead_links(page) == ["#three", "b.md", "c.png"]


def test_code_and_configs_name_only_documents_that_exist():
    listed = subprocess.run(
        ["git", "grep", "-ohE", r"docs/\w+\.md", "--", "*.py", "*.jinja", "*.ipynb", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    named = set(listed.split())
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_maps_of_both_readmes_have_the_same_links():
    maps = {"README.md": "## Map", "README.fa.md": "## نقشه"}
    links = []
    for name, heading in maps.items():
        _, _, rest = (ROOT / name).read_text("utf-8").partition(f"\n{heading}\n")
        links.append(sorted(groups[0] for groups in LINK.findall(rest.partition("\n## ")[0])))
    assert len(links[0]) > 20
    assert links[0] == links[1]


def in_menu() -> set[str]:
    """The pages in the menu of mkdocs.yml, read without a YAML parser."""
    _, _, menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")
    return set(re.findall(r"[\w./]+\.md$", menu, re.MULTILINE))


def test_the_menu_names_every_page_and_every_command():
    pages = {str(page.relative_to(ROOT)) for page in markdown_files()}
    expected = {name for name in pages if "/" not in name or re.fullmatch(r"docs/[^/]+", name)}
    commands = {f"commands/{name}.md" for name in config_files.summaries(ROOT / "configs")}
    named = {name for name in in_menu() if not name.startswith("api/")}
    assert named == expected | commands | {"commands/index.md"}


@pytest.fixture(scope="module")
def site_pages(tmp_path_factory):
    """The folder of the pages from which the site is built."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    script = [sys.executable, "docs/assemble_site.py", f"--pages={folder}"]
    subprocess.run(script, cwd=ROOT, check=True)
    return folder


def test_the_menu_names_only_pages_that_exist(site_pages):
    written = {str(page.relative_to(site_pages)) for page in site_pages.rglob("*.md")}
    assert in_menu() == written


def test_the_page_of_a_command_has_its_docstring_fields_defaults_and_meanings(site_pages):
    page = (site_pages / "commands" / "predict.md").read_text("utf-8")
    assert page.startswith("# predict\n\nPredicts the emotions of the faces in an image")
    assert "    python launch.py --config=configs/predict.py --config.input=holiday.mp4" in page
    assert re.search(r"\| `every_s` \| `0\.2` \| number ≥ 0 \| Seconds of video between", page)
    assert "[People in video](../docs/people_in_video.md)" in page
    emotion = (site_pages / "commands" / "emotion.md").read_text("utf-8")
    assert re.search(r"\| `backbone\.stem` \| `'tiny'` \| full, small, tiny, micro \| \S", emotion)
    assert re.search(r"\| `tasks\.emotion\.mixup` \| `0\.0` \| number ≥ 0\S* \| \S", emotion)


def test_every_field_of_every_config_has_a_description(site_pages):
    undescribed = []
    for page in sorted((site_pages / "commands").glob("*.md")):
        rows = re.findall(r"^\| (`.*)\|$", page.read_text("utf-8"), re.MULTILINE)
        assert rows or page.stem == "index"
        undescribed += [f"{page.stem}: {row}" for row in rows if not row.rpartition("|")[2].strip()]
    assert not undescribed


def test_the_built_site_is_checked_for_dead_links_and_other_hosts(tmp_path):
    page = tmp_path / "index.html"
    page.write_text(
        '<h1 id="a">A</h1><a href="#a"></a><a href="#b"></a><a href="c/"></a>'
        '<script src="https://cdn.example/x.js"></script>'
    )
    (tmp_path / "x.css").write_text("@import url(//fonts.example/y.css);")
    script = [sys.executable, "docs/assemble_site.py", f"--check={tmp_path}"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    for fault in (
        "links to #b, which has no such anchor",
        "links to c/, which does not exist",
        "loads https://cdn.example/x.js from another host",
        "x.css loads something from another host",
        "has only 1 pages",
    ):
        assert fault in done.stderr
    assert "#a" not in done.stderr.replace("has no such anchor", "")
