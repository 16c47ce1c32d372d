"""No stage changes its inputs, wherever they and the workdir are."""

import re
import shutil
from pathlib import Path

import pytest

from tests.robustness import originals, stand_ins
from tests.robustness.parts import PARTS, Accepted, attempt, quick_training
from tests.robustness.stages import CASES, REMOVED

ROOT = Path(__file__).parents[2]
LAYOUTS = ("outside", "inside", "around", "linked", "identical")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Replaces the networks with stand-ins; training ends before its weights are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        stand_ins.replace_all(patch.setattr)
        with quick_training(with_network=False):
            yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A function from a stage's name to the folder of its originals, which are written once."""
    made = {}

    def prepare(name):
        if name not in made:
            home = tmp_path_factory.mktemp(name)
            for part in ("main", "side"):
                (home / part).mkdir()
            CASES[name].prepare(home / "main", home / "side")
            made[name] = home
        return made[name]

    return prepare


def lay_out(layout, root, output):
    """The folder of the originals, its path in the config, and the workdir."""
    main, work = root / "originals", root / "work"
    match layout:
        case "outside":
            return main, main, work
        case "inside":  # where the stage writes
            return work / output, work / output, work
        case "around":  # the workdir is among the originals
            return main, main, main / "results"
        case "linked":  # there is a link to the originals where the stage writes
            work.mkdir()
            (work / output).symlink_to(main)
            (root / "link").symlink_to(main)
            return main, root / "link", work
        case "identical":
            return main, main, main
    raise ValueError(layout)


def own(digests):
    """The digests of the files that `remove` must not change.

    Tables, JSON, contact sheets and the removed person's files are left out.
    """
    tables = (".csv", ".parquet", ".json", ".jsonl")
    return {
        path: digest
        for path, digest in digests.items()
        if REMOVED not in path.parts and path.suffix not in tables and path.name != "sheet.png"
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_originals_are_unchanged_in_every_layout(name, layout, prepared, tmp_path):
    case = CASES[name]
    main, named, work = lay_out(layout, tmp_path, case.output)
    side = tmp_path / "side"
    shutil.copytree(prepared(name) / "main", main, symlinks=True)
    if name != "remove":
        shutil.copytree(prepared(name) / "side", side)
    else:
        case.prepare(main, side)
    before = originals.digests(main, side)
    if name == "remove":
        before = own(before)
        result = attempt(case.run, lambda: case.configure(named, side), work)
    else:
        result = attempt(case.run, lambda: case.configure(named, side), work, main, side)
    assert originals.lost(before, originals.digests(main, side)) == []
    if layout == "outside":
        assert isinstance(result, Accepted), result


def test_the_security_page_names_tests_that_exist():
    page = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", page))
    assert len(named) >= 8
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    parts = {part for found in re.findall(r"test_inputs\.py` \(([^)]*)\)", page)
             for part in found.split(", ")}  # fmt: skip
    assert parts and parts <= set(PARTS)
