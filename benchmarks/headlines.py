"""Writes the tables of headline results into the documents, from the files of docs/results/.

    python -m benchmarks headlines
    python -m benchmarks headlines --from=WORK/real_people
    python -m benchmarks headlines --demo=work/demo --revision=e5e5ebb

docs/results/NAME.json contains the accuracy of each method on the people of one set, with interval,
paired difference, seeds, revision, machine, date and command. Without arguments, the command
renders these files as tables and replaces the blocks of README.md, README.fa.md and docs/results.md
that lie between the comments `<!-- headlines BLOCK -->` and `<!-- end of headlines -->`.

--from first updates the files from the workdir of `python -m benchmarks real_people`, and --demo
from the workdir of `make demo`. A method that the workdir lacks keeps its earlier results, without
the paired difference, since the method that it is compared with was measured again. Revision and
machine are those of the environment.json of each method. A run with uncommitted changes is refused
unless --revision names the commit that contains them. With --check, no document is written, and the
exit code is 1 if one is outdated.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from fer_jax.console import count
from fer_jax.errors import UserError
from fer_jax.schemas.fields import Section
from fer_jax.workdir import atomic_file, read_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = ("README.md", "README.fa.md", "docs/results.md")
BLOCK = re.compile(r"(<!-- headlines (\S+) -->\n).*?(<!-- end of headlines -->)", re.DOTALL)

REAL = {
    "kdef55": ("55 people, posed", "۵۵ نفر، حالت‌های نمایشی"),
    "ikfdb15": ("15 Iranian people", "۱۵ ایرانی"),
    "yale": ("15 people of the Yale faces", "۱۵ نفر از چهره‌های Yale"),
}
METHODS = {
    "default": ("fer_jax, default", "fer_jax، پیش‌فرض"),
    "as_is": ("the starter without training", "شبکهٔ همراه، بدون آموزش"),
    "hog": ("HOG + linear SVM", "HOG + SVM خطی"),
    "fer": ("the package `fer`", "بستهٔ `fer`"),
    "scratch": ("small network from scratch", "شبکهٔ کوچک از صفر"),
}
LEADS = {"hog": "HOG", "fer": "`fer`"}  # methods that the text compares with the default
DEMO = {
    "starter_adapted": "the starter adapted to the photographs",
    "starter_and_videos": "the same after pretraining on the clips",
    "small_from_scratch": "small network from scratch",
    "starter_as_is": "the starter without training",
}
DEMO_FA = {
    "starter_adapted": "شبکهٔ همراه، سازگارشده با عکس‌ها",
    "starter_and_videos": "همان، پس از پیش‌آموزش روی ویدیوها",
    "small_from_scratch": "شبکهٔ کوچک از صفر",
    "starter_as_is": "شبکهٔ همراه، بدون آموزش",
}
EMOTIONS_FA = {"angry": "خشمگین", "happy": "شاد", "neutral": "خنثی", "sad": "غمگین"}
REAL_COMMAND = (
    "python -m benchmarks real_people --photographs {name}=WORK/{name} "
    "--fer {name}=WORK/fer/{name} --workdir=WORK/real_people"
)
FER_COMMAND = (  # in the environment of benchmarks/requirements-fer.txt
    "python -m benchmarks floors --method=fer --photographs=WORK/{name} --photos=PHOTOS/labels.csv "
    "--folds-of=WORK/real_people/{name}/default --workdir=WORK/fer/{name}"
)


class Estimate(Section):
    """A fraction with its 95 % interval over people; the limits are None if not recorded."""

    value: float
    low: float | None = None
    high: float | None = None


class Measured(Section):
    """One method on one set.

    Attributes:
        difference: the accuracy of the set's first method minus that of this one, paired; None for
            the first method, and if the two were not compared.
        selected: the number of folds in which the method selected each option.
        seeds: the seeds of the folds and the training.
        note: what differs from the other rows of the set.
    """

    accuracy: Estimate
    difference: Estimate | None = None
    selected: dict[str, int] = Field(default_factory=dict)
    seeds: tuple[int, ...]
    revision: str = "not recorded"
    machine: str = "a machine that was not recorded"
    date: str = "not recorded"
    command: str
    note: str = ""


class Result(Section):
    """All methods on one set of people; the first method is the reference."""

    name: str
    people: int
    photographs: int
    emotions: tuple[str, ...]
    folds: int
    methods: dict[str, Measured]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="real", type=Path, help="a workdir of real_people")
    parser.add_argument("--demo", type=Path, help="a workdir of make demo")
    parser.add_argument(
        "--revision", default="", help="the measured commit; overrides environment.json"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="do not write the documents; exit with 1 if one is outdated",
    )
    flags = parser.parse_args()
    try:
        if flags.real:
            update_real(flags.real, flags.revision)
        if flags.demo:
            update_demo(flags.demo, flags.revision)
        outdated = render_documents(write=not flags.check)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in outdated:
        print(f"{'outdated' if flags.check else 'updated'}: {name}")
    return int(flags.check and bool(outdated))


def update_real(workdir: Path, revision: str = "") -> None:
    """Updates docs/results/NAME.json for each set with results in a workdir of `real_people`.

    Raises:
        UserError: the workdir has no results, or they do not name the folders of their runs.
    """
    files = [workdir / f"{name}.json" for name in REAL]
    if not any(file.exists() for file in files):
        names = ", ".join(file.name for file in files)
        raise UserError(f"{workdir} contains none of {names}; pass a workdir of real_people")
    for file in files:
        if file.exists():
            commands = dict.fromkeys(METHODS, REAL_COMMAND) | {"fer": FER_COMMAND}
            commands = {method: line.format(name=file.stem) for method, line in commands.items()}
            found = read_json(file)
            if "folders" not in found:
                raise UserError(
                    f"{file} does not name the folders of its runs; repeat the command of "
                    "real_people, which keeps finished runs"
                )
            folders = {method: workdir / place for method, place in found["folders"].items()}
            update(file.stem, found, folders, commands, revision)


def update_demo(workdir: Path, revision: str = "") -> None:
    """Updates docs/results/demo.json from a workdir of `make demo`."""
    folders = dict.fromkeys(DEMO, workdir / "evaluate")
    found = read_json(workdir / "evaluate" / "metrics.json", runs=dict)
    update("demo", found, folders, dict.fromkeys(DEMO, "make demo"), revision)


def update(
    name: str,
    found: dict[str, Any],
    folders: dict[str, Path],
    commands: dict[str, str],
    revision: str,
) -> None:
    """Replaces the stored results of the measured methods, and keeps those of the others.

    The results that are kept lose their differences.

    Args:
        name: the name of the set.
        found: what `fer_jax.metrics.results.evaluate` returned for the set.
        folders: the workdir of each method. Its environment.json names revision and machine.
        commands: the command that measured each method.
        revision: replaces that of environment.json, if it is not empty.

    Raises:
        UserError: a folder has no environment.json, or its revision is not a commit.
    """
    main = found["main"]
    compared = {one["second"]: one for one in found["comparisons"] if one.get("comparable")}
    methods = {}
    for method, run in found["runs"].items():
        folder = folders[method]
        environment = read_json(folder / "environment.json", git_revision=str)
        difference = compared[method]["difference"]["accuracy"] if method in compared else None
        methods[method] = Measured(
            accuracy=estimate(run["accuracy"]),
            difference=estimate(difference) if difference else None,
            selected=run["choices"],
            seeds=tuple(run["protocol"]["seeds"]),
            revision=commit(revision or environment["git_revision"], folder),
            machine=machine(environment),
            date=str(datetime.date.fromtimestamp((folder / "environment.json").stat().st_mtime)),
            command=commands[method],
            note=without_face(run, found["runs"][main]),
        )
    file, run = RESULTS / f"{name}.json", found["runs"][main]
    if file.exists():
        kept = {key: old for key, old in read(name).methods.items() if key not in methods}
        methods |= {key: old.model_copy(update={"difference": None}) for key, old in kept.items()}
    result = Result(
        name=name,
        people=run["people"],
        photographs=run["photographs"],
        emotions=tuple(found["labels"]),
        folds=run["protocol"]["folds"],
        methods=methods,
    )
    write_text(file, result.model_dump_json(indent=2, exclude_defaults=True) + "\n")


def estimate(found: dict[str, float]) -> Estimate:
    """The value and interval in `found`, rounded to six decimals."""
    return Estimate(**{key: round(found[key], 6) for key in ("value", "low", "high")})


def commit(revision: str, folder: Path) -> str:
    """The short hash of the commit `revision`, on which the run in `folder` was measured.

    Raises:
        UserError: `revision` ends in "-dirty", or this repository has no such commit.
    """
    asked = ["git", "rev-parse", "--verify", "--short=7", f"{revision}^{{commit}}"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        dirty = revision.endswith("-dirty")
        reason = (
            "the working tree had uncommitted changes; set --revision to the commit that contains "
            "them, or commit them and measure again"
            if dirty
            else "it is not a commit of this repository; set --revision to the commit that was "
            "measured"
        )
        raise UserError(f"{folder}: cannot use the revision {revision!r}: {reason}")
    return found.stdout.strip()


def machine(environment: dict[str, Any]) -> str:
    """The machine as text.

    The text contains the version of Python, and that of JAX. If JAX was not installed, it contains
    the version of every recorded package instead.
    """
    devices = sorted({one.partition(":")[0] for one in environment.get("devices", ())})
    packages = environment["packages"]
    versions = {"jax": packages["jax"]} if "jax" in packages else packages
    parts = [
        f"{environment['cpu_count']} CPU cores",
        *([f"device {', '.join(devices)}"] if devices else []),
        f"Python {environment['python']}",
        *(f"{package} {version}" for package, version in versions.items()),
    ]
    return ", ".join(parts)


def without_face(run: dict[str, Any], main: dict[str, Any]) -> str:
    """A note on the photographs in which `run` finds no face; "" if `main` has as many."""
    if run["no_face"] == main["no_face"]:
        return ""
    number = round(run["no_face"])
    errors = "which counts as an error" if number == 1 else "which count as errors"
    return f"it finds no face in {count(number, 'photograph')}, {errors}"


def read(name: str) -> Result:
    """Reads the stored results of the set `name`."""
    return Result.model_validate_json((RESULTS / f"{name}.json").read_text("utf-8"))


def render_documents(*, write: bool) -> list[str]:
    """Renders the blocks of all documents; returns the names of the documents that change.

    These documents are rewritten if `write`.

    Raises:
        UserError: a document has an unknown block.
    """
    changed = []
    for name in DOCUMENTS:
        file = ROOT / name
        if not file.exists():  # README.fa.md is optional
            continue
        old = file.read_text("utf-8")
        unknown = {found[1] for found in BLOCK.findall(old)} - set(BLOCKS)
        if unknown:
            raise UserError(
                f"{name}: there is no block {', '.join(sorted(unknown))}; use one of "
                f"{', '.join(BLOCKS)}"
            )
        new = BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], old)
        if new != old:
            changed.append(name)
            if write:
                write_text(file, new)
    return changed


def write_text(file: Path, text: str) -> None:
    """Writes a file atomically."""
    with atomic_file(file) as temporary:
        temporary.write_text(text, "utf-8")


def real_people() -> str:
    """The table of README.md, a row per set and a column per method, and the paired differences."""
    sets = {name: read(name) for name in REAL}
    lines = [["held-out people", *(f"{METHODS[method][0]}" for method in METHODS)]]
    for name, result in sets.items():
        emotions = ", ".join(result.emotions)
        described = f"{REAL[name][0]}: {emotions}; {result.photographs} photographs ({name})"
        lines.append([described, *(cell(result, method, str) for method in METHODS)])
    text = table(lines)
    for method, other in LEADS.items():
        leads = [
            f"{shown(lead.value, signed=True)} points ({between(lead)}) on {name}"
            for name, lead in leads_over(method, sets).items()
        ]
        if leads:
            text += f"\nThe default minus {other}: {'; '.join(leads)}.\n"
    return text


def real_people_fa() -> str:
    """The text of `real_people` in Persian, for README.fa.md."""
    sets = {name: read(name) for name in REAL}
    lines = [["افراد آزمون", *(METHODS[method][1] for method in METHODS)]]
    for name, result in sets.items():
        emotions = "، ".join(EMOTIONS_FA[emotion] for emotion in result.emotions)
        photographs = persian(str(result.photographs))
        described = f"{REAL[name][1]}: {emotions}؛ {photographs} عکس ({name})"
        cells = (cell(result, method, persian, to="تا", missing="—") for method in METHODS)
        lines.append([described, *cells])
    text = table(lines)
    for method, other in LEADS.items():
        leads = [
            persian(f"{shown(lead.value, signed=True)} ({between(lead, to='تا')}) ") + f"در {name}"
            for name, lead in leads_over(method, sets).items()
        ]
        if leads:
            text += f"\nپیش‌فرض منهای {other}، به درصد: {'؛ '.join(leads)}.\n"
    return text


def leads_over(method: str, sets: dict[str, Result]) -> dict[str, Estimate]:
    """The accuracy of the default minus that of `method`, paired, for the sets that have it."""
    found = {name: result.methods.get(method) for name, result in sets.items()}
    return {name: other.difference for name, other in found.items() if other and other.difference}


def real_people_details() -> str:
    """The tables of docs/results.md, one per set, with a row per method."""
    parts = []
    for name in REAL:
        result = read(name)
        emotions, folds = ", ".join(result.emotions), f"{result.folds} folds of people"
        about = f"{REAL[name][0]}, {result.photographs} photographs, {emotions}, {folds}"
        parts.append(f"**{name}**: {about}.\n\n{details(result, METHODS)}")
    return "\n".join(parts)


def generated_people() -> str:
    """The table of the demonstration for README.md."""
    result = read("demo")
    lines = [["held-out people", *DEMO.values()]]
    about = f"{result.people} generated people, {result.photographs} photographs (`make demo`)"
    return table([*lines, [about, *(cell(result, method, str) for method in DEMO)]])


def generated_people_fa() -> str:
    """The table of `generated_people` in Persian, for README.fa.md."""
    result = read("demo")
    lines = [["افراد آزمون", *DEMO_FA.values()]]
    people, photographs = persian(str(result.people)), persian(str(result.photographs))
    about = f"{people} فرد ساختگی، {photographs} عکس (`make demo`)"
    cells = (cell(result, method, persian, to="تا", missing="—") for method in DEMO_FA)
    return table([*lines, [about, *cells]])


def generated_people_details() -> str:
    """The table of the demonstration for docs/results.md."""
    return details(read("demo"), DEMO)


BLOCKS: dict[str, Callable[[], str]] = {
    "real-people": real_people,
    "real-people-fa": real_people_fa,
    "real-people-details": real_people_details,
    "generated-people": generated_people,
    "generated-people-fa": generated_people_fa,
    "generated-people-details": generated_people_details,
}


def details(result: Result, names: dict[str, Any]) -> str:
    """A table with a row per measured method, and the commands and machines below it."""
    header = ["method", "accuracy, %", "95 % interval", "difference, points", "selected"]
    lines = [[*header, "seed", "revision", "date"]]
    sources: dict[str, list[str]] = {}
    for method, name in names.items():
        if method not in result.methods:
            continue
        found = result.methods[method]
        gain = ""
        if found.difference:
            gain = f"{shown(found.difference.value, signed=True)} ({between(found.difference)})"
        lines.append(
            [
                name if isinstance(name, str) else name[0],
                shown(found.accuracy.value),
                between(found.accuracy, signed=False),
                gain,
                ", ".join(f"{what} {count}" for what, count in found.selected.items()),
                ", ".join(map(str, found.seeds)),
                found.revision,
                found.date,
            ]
        )
        note = f"; {found.note}" if found.note else ""
        source = f"`{found.command}` on {found.machine}{note}"
        sources.setdefault(source, []).append(str(len(lines) - 1))
    notes = ""
    for source, rows in sources.items():
        notes += f"\nRow{'s' if len(rows) > 1 else ''} {', '.join(rows)}: {source}\n"
    return table(lines) + notes


def cell(
    result: Result,
    method: str,
    digits: Callable[[str], str],
    to: str = "to",
    missing: str = "not measured",
) -> str:
    """The accuracy in percent; that of the first method is bold, with its interval.

    `digits` converts numbers to the digits of a language; `to` is the word between the limits, and
    `missing` the text for a method without a result.
    """
    if method not in result.methods:
        return missing
    accuracy = result.methods[method].accuracy
    value = digits(shown(accuracy.value))
    if method != next(iter(result.methods)):
        return value
    return f"**{value}** ({digits(between(accuracy, signed=False, to=to))})"


def shown(value: float, *, signed: bool = False) -> str:
    """A fraction in percent with one decimal; the minus sign is U+2212.

    If `signed`, the text begins with a sign even if the fraction is positive.
    """
    return f"{100 * value:{'+' if signed else ''}.1f}".replace("-", "−")


def between(found: Estimate, *, signed: bool = True, to: str = "to") -> str:
    """The limits of the interval in percent, or "not recorded"."""
    if found.low is None or found.high is None:
        return "not recorded"
    return f"{shown(found.low, signed=signed)} {to} {shown(found.high, signed=signed)}"


def persian(text: str) -> str:
    """The text with Persian digits and the Persian decimal separator."""
    return text.translate(str.maketrans("0123456789.", "۰۱۲۳۴۵۶۷۸۹٫"))


def table(lines: list[list[str]]) -> str:
    """A Markdown table; the first line is its header."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
