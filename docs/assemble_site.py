"""Collects the pages of the documentation site, and checks the site that was built from them.

    python docs/assemble_site.py --pages=build/docs     # what `make docs` runs before the build
    python docs/assemble_site.py --check=build/site     # and after it

The pages are the Markdown files of the repository, in the same folders, so that their links work in
both places; one page per command, written from the docstring, the comments and the schema of its
config; and one page per part of the Python API, whose text mkdocstrings takes from the docstrings.

The check reads every page that was built. It fails if a link to a file or an anchor of the site is
dead, or if a page loads anything from another host.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ml_collections import ConfigDict  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402

from fer_jax import config_files  # noqa: E402
from fer_jax.models import inception_resnet_v2  # noqa: E402
from fer_jax.schemas.stages import STAGES  # noqa: E402
from fer_jax.schemas.training import Training  # noqa: E402

LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
API = {
    "python": (
        "Read faces in Python",
        "The names of `import fer_jax`. [Python](../docs/python.md) explains them by example.",
        "api recogniser reading features errors",
    ),
    "tasks": (
        "Tasks",
        "A task of your own is [one file](../docs/add_a_pretext_task.md).",
        "tasks tasks.rotation tasks.jigsaw tasks.relative_patch tasks.simclr tasks.vicreg "
        "tasks.verification tasks.emotion tasks.augment",
    ),
    "models": (
        "Networks",
        "A backbone of your own is [one file](../docs/add_a_backbone.md).",
        "models.backbone models.inception_resnet_v2 models.network models.heads models.pretrained",
    ),
    "crossval": (
        "Cross-validation",
        "A method of your own is [one file](../docs/add_a_method.md).",
        "crossval.protocols crossval.method crossval.models crossval.labelled_faces",
    ),
    "metrics": (
        "Measures and intervals",
        "What the figures of a report mean: [how accuracy is measured](../docs/measuring.md).",
        "metrics.predictions metrics.measures metrics.bootstrap metrics.calibration "
        "metrics.crossed_effects metrics.results auditing.leakage auditing.likeness",
    ),
    "data": (
        "Data",
        "A data set of your own is [one module](../docs/add_a_data_set.md).",
        "data.manifest data.labels data.iterators data.sources data.builders",
    ),
    "faces": (
        "Faces",
        "How faces are found and cropped: [faces from videos](../docs/faces.md).",
        "faces.mtcnn faces.alignment faces.video faces.quality following smoothing",
    ),
    "training": (
        "Training",
        "The loop that all training uses: [architecture](../docs/architecture.md).",
        "training.step training.loop training.optimizer training.checkpoint "
        "training.model_directory training.trained_model training.person_relative",
    ),
    "stages": (
        "Stages",
        "A stage runs a config in a workdir: [architecture](../docs/architecture.md).",
        "workdir outputs config_files console failures",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=Path, help="the folder that the pages are written to")
    parser.add_argument("--check", type=Path, help="the folder of a site that was built")
    flags = parser.parse_args()
    if flags.pages:
        assemble(flags.pages)
    faults = list(check(flags.check)) if flags.check else []
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return int(bool(faults))


def assemble(folder: Path) -> None:
    """Empties `folder`, then writes all pages into it."""
    shutil.rmtree(folder, ignore_errors=True)
    files = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
    pages = {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in files}
    for name, text in pages.items():
        for target in LINK.findall(text):
            copy_target(ROOT / name, target, folder)
    shutil.copy(ROOT / "docs" / "site.css", folder / "docs" / "site.css")
    pages |= {f"commands/{name}.md": text for name, text in commands().items()}
    pages |= {f"api/{name}.md": api_page(*parts) for name, parts in API.items()}
    for name, text in pages.items():
        text = re.sub(r"^<div ", '<div markdown="1" ', text, flags=re.MULTILINE)  # as on GitHub
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def copy_target(page: Path, target: str, folder: Path) -> None:
    """Copies the picture, notebook or source file that a page links to."""
    file = (page.parent / urllib.parse.unquote(target)).resolve()
    if "://" in target or file.suffix == ".md" or not file.is_file():
        return
    copy = folder / file.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, copy)


# ---- One page per command.


class Field(NamedTuple):
    """A flag of a command, its default, the values that it accepts, and its meaning, in words."""

    name: str
    default: str
    values: str
    meaning: str


def commands() -> dict[str, str]:
    """The Markdown of the page of every config, by its name, and of "index", which lists them."""
    summaries = config_files.summaries(ROOT / "configs")
    lines = [
        "# Commands",
        "",
        "Each command is a config in `configs/`. In a checkout it is run by `python launch.py "
        "--config=configs/NAME.py`, and after `pip install .` by `fer-jax NAME`, whose flags have "
        "no `config.` in their names. `--help` shows what these pages show.",
        "",
        "| command | what it does |",
        "|---|---|",
        *(f"| [{name}]({name}.md) | {prose(text)} |" for name, text in summaries.items()),
    ]
    pages = {"index": "\n".join(lines) + "\n"}
    return pages | {name: command_page(name) for name in summaries}


def command_page(name: str) -> str:
    """The page of a config as Markdown: its docstring, and a table of its flags."""
    text, config = config_files.load(str(ROOT / "configs" / f"{name}.py"))
    fields = list(fields_of(name, config))
    lines = [f"# {name}", "", *linked(text).splitlines(), "", "## Flags", ""]
    if config.stage == "pipeline":
        lines += [
            "Every field of every step is a flag too: `--config.steps.STEP.FIELD=VALUE`. The "
            f"steps are {', '.join(f'`{step}`' for step in config.order)}. Their fields are those "
            "of the commands that have the same name or the same stage.",
            "",
        ]
    lines += [
        f"A field is set by `--config.FIELD=VALUE`, or by `--FIELD=VALUE` of `fer-jax {name}`. "
        "The defaults are those of the command without an argument after its name.",
        "",
        "| field | default | values | meaning |",
        "|---|---|---|---|",
    ]
    for field in fields:
        cells = (code(field.name), code(field.default), field.values, field.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def fields_of(name: str, config: ConfigDict) -> Iterator[Field]:
    """Yields the fields of a config except `stage`, sections, and the fields of a pipeline's steps.

    The meaning of a field is its comment in a config or, without one, its description in the
    schema.
    """
    schema = STAGES[config.stage].model_json_schema()
    meanings = comments_of_stage(name, config.stage)
    for path, value in config_files.fields(config).items():
        inside_steps = config.stage == "pipeline" and path.split(".")[0] == "steps"
        if isinstance(value, ConfigDict) or path == "stage" or inside_steps:
            continue
        found, described = look_up(schema, path)
        if not found and path.split(".")[0] in ("backbone", "tasks"):
            found, described = look_up(*plugin(path))
        meaning = meanings.get(path) or described or meanings.get(path.rpartition(".")[0], "")
        yield Field(path, repr(value), values(found), cell_text(meaning))


def plugin(path: str) -> tuple[dict[str, Any], str]:
    """The JSON schema of the network or task that has a field, and the field's path in it."""
    first, *rest = path.split(".")
    if first == "backbone":
        return TypeAdapter(inception_resnet_v2.BACKBONE).json_schema(), ".".join(rest)
    task = importlib.import_module(f"fer_jax.tasks.{rest[0]}").TASK
    return TypeAdapter(task).json_schema(), ".".join(rest[1:])


def look_up(schema: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The JSON schema of a field ({} if there is none), and its description in its section."""
    found, described = schema, ""
    for part in path.split("."):
        section = resolve(schema, found)
        found = section.get("properties", {}).get(part, section.get("additionalProperties"))
        described = attributes(section.get("description", "")).get(part, "")
        if not isinstance(found, dict):
            return {}, described
    return resolve(schema, found), described


def resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A part of a JSON schema; a reference is replaced by the definition that it names."""
    reference = part.get("$ref", "")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else part


def attributes(docstring: str) -> dict[str, str]:
    """The descriptions of the attributes in a docstring, by their names."""
    text = docstring.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for names, described in re.findall(r"^    ([\w, ]+): (.*(?:\n     +.*)*)", text, re.MULTILINE):
        for name in names.split(", "):
            found[name] = " ".join(described.split())
    return found


def values(schema: dict[str, Any]) -> str:
    """The values that a field accepts, in words; "" if its schema does not say."""
    if "anyOf" in schema:
        return " or ".join(filter(None, dict.fromkeys(values(one) for one in schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return ", ".join(str(one) or '""' for one in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {values(schema.get('items', {})) or 'values'}"
    if kind in ("integer", "number"):
        bounds = [
            f"{sign} {schema[key]:g}" if key.endswith("imum") and abs(schema[key]) < 1e6 else ""
            for key, sign in (
                ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"),
                ("exclusiveMaximum", "<"),
            )
            if key in schema
        ]  # fmt: skip
        return " ".join([kind, ", ".join(filter(None, bounds))]).strip()
    return {"string": "text", "boolean": "True or False"}.get(kind, "")


def comments_of_stage(name: str, stage: str) -> dict[str, str]:
    """The comments on the fields of a config, by the field's path.

    They are in the file of the config and in other files with the same fields: the configs of the
    same stage and, for the fields shared by all stages that train, all configs.
    """
    found: dict[str, str] = {}
    files = sorted((ROOT / "configs").glob("*.py"), key=lambda file: file.stem != "emotion")
    for file in [*files, ROOT / "configs" / f"{name}.py"]:
        text = file.read_text("utf-8")
        same = file.stem == name or f'config.stage = "{stage}"' in text
        for path, said in comments(text).items():
            if said and (same or path.split(".")[0] in common_fields(stage)):
                found[path] = said
    return found


def common_fields(stage: str) -> set[str]:
    """The names of the fields shared by all stages that train; empty if `stage` does not train."""
    return set(Training.model_fields) if issubclass(STAGES[stage], Training) else set()


def comments(source: str) -> dict[str, str]:
    """The comment on each field that a config file sets: above it, at the end of its line, or both.

    Fields without a comment have the text "".
    """
    lines = source.splitlines()

    def said(number: int) -> str:
        """The comment on the line of this number, counted from 1."""
        above: list[str] = []
        for line in reversed(lines[: number - 1]):
            if not line.strip().startswith("#"):
                break
            above.insert(0, line.strip().lstrip("# "))
        _, mark, behind = lines[number - 1].rpartition("  # ")
        if behind.startswith("fmt:"):
            mark = ""
        return " ".join([*above, behind] if mark else above)

    def visit(path: str, value: ast.expr) -> Iterator[tuple[str, str]]:
        if isinstance(value, ast.Call) and value.args:  # ConfigDict({...})
            value = value.args[0]
        if isinstance(value, ast.Dict):
            for key, inner in zip(value.keys, value.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield f"{path}.{key.value}", said(key.lineno)
                    yield from visit(f"{path}.{key.value}", inner)

    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            path = ast.unparse(node.targets[0])
            if path.startswith("config."):
                path = path.removeprefix("config.")
                found[path] = said(node.lineno)
                found.update(visit(path, node.value))
    return found


def linked(text: str) -> str:
    """A docstring as Markdown: indented blocks are code, and pages and configs become links."""
    text = re.sub(r"^((?:Cost|Expect|Memory|Methods):)", r"\n**\1**", text, flags=re.MULTILINE)
    parts = re.split(r"((?:^    .*\n|^\n)+)", text + "\n", flags=re.MULTILINE)
    return "".join(part if index % 2 else prose(part) for index, part in enumerate(parts))


def prose(text: str) -> str:
    """Text of a docstring as Markdown, with special characters escaped outside `code`.

    Flags become code; names of pages and configs become links.
    """
    parts = re.split(r"(`[^`]*`)", text)
    for index in range(0, len(parts), 2):
        part = re.sub(r"((?<!\*)\*(?!\*)|[<|])", r"\\\1", parts[index])
        part = re.sub(r"--config[.=][\w.=\[\]'\"/,:()-]*\w\)?", lambda found: code(found[0]), part)
        part = re.sub(r"\bdocs/(\w+)\.md", page_link, part)
        parts[index] = re.sub(r"\bconfigs/(\w+)\.py", command_link, part)
    return "".join(parts)


def page_link(found: re.Match[str]) -> str:
    """A link to a page of docs/ with the page's title; the text itself if there is no such page."""
    file = ROOT / found[0]
    if not file.exists():
        return found[0]
    title = file.read_text("utf-8").partition("\n")[0].removeprefix("# ")
    return f"[{title}](../docs/{found[1]}.md)"


def command_link(found: re.Match[str]) -> str:
    """A link to the page of a config; the text itself if it has none."""
    exists = found[1] in config_files.summaries(ROOT / "configs")
    return f"[{found[0]}]({found[1]}.md)" if exists else found[0]


def cell_text(text: str) -> str:
    """A comment as the text of a cell in a table; a plain word at its beginning is capitalised."""
    text = prose(text)
    return text[:1].upper() + text[1:] if re.match(r"[a-z]\w* ", text) else text


def code(text: str) -> str:
    """`text` as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


# ---- The Python API.


def api_page(title: str, summary: str, modules: str) -> str:
    """The Markdown of a page of the Python API, into which mkdocstrings inserts the docstrings.

    `modules` are names in `fer_jax`, separated by spaces.
    """
    blocks = (f"::: fer_jax.{module}" for module in modules.split())
    return "\n\n".join([f"# {title}", summary, *blocks]) + "\n"


# ---- The site that was built.


class Page(HTMLParser):
    """The links, anchors and resources (scripts, styles, pictures) of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.resources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Records the anchors, the link and the resource of a tag."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.resources.append(given.get("href", ""))
        elif "src" in given:
            self.resources.append(given["src"])


def check(site: Path) -> Iterator[str]:
    """Yields one line for each fault in the site in `site`."""
    pages = {file: Page(file.read_text("utf-8")) for file in sorted(site.rglob("*.html"))}
    if len(pages) < len(API) + len(commands()):
        yield f"{site} has only {len(pages)} pages"
    for file, page in pages.items():
        name = file.relative_to(site)
        for resource in page.resources:
            if re.match(r"(https?:)?//", resource):
                yield f"{name} loads {resource} from another host"
        for link in page.links if file.name != "404.html" else ():
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:|//", target):
                continue
            place = (file.parent / urllib.parse.unquote(target)).resolve() if target else file
            place = place / "index.html" if place.is_dir() else place
            if not place.exists():
                yield f"{name} links to {link}, which does not exist"
            elif place in pages and urllib.parse.unquote(anchor) not in pages[place].anchors:
                yield f"{name} links to {link}, which has no such anchor"
    for file in (*site.rglob("*.css"), *site.rglob("*.js")):
        if re.search(r"(?:@import|src:|url\()\s*[\"'(]*(?:https?:)?//", file.read_text("utf-8")):
            yield f"{file.relative_to(site)} loads something from another host"


if __name__ == "__main__":
    sys.exit(main())
