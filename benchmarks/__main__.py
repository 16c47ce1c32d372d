"""Measurements and comparisons with other packages, one module each.

    python -m benchmarks                 # lists them
    python -m benchmarks NAME --help     # explains one

Run these commands in the root of the repository. Some measurements need further packages, which
their --help names.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# Endings of the names of modules that measurements start or import in separate environments.
_STARTED_BY_OTHERS = ("_peers", "_worker", "_network")


def docstrings() -> dict[str, str]:
    """The docstring of each measurement, by name. No measurement is imported."""
    return {
        file.stem: ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        for file in sorted(FOLDER.glob("*.py"))
        if not file.stem.startswith("_") and not file.stem.endswith(_STARTED_BY_OTHERS)
    }


def summaries() -> dict[str, str]:
    """The first line of each measurement's docstring, by name."""
    return {name: text.partition("\n")[0] for name, text in docstrings().items()}


def main() -> int | str:
    known = summaries()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        width = max(map(len, known))
        print(__doc__)
        print("\n".join(f"  {name:{width}}  {summary}" for name, summary in known.items()))
        return 0
    name = sys.argv.pop(1)
    if name not in known:
        return f"error: no measurement is called {name!r}; choose from {', '.join(known)}"
    if {"-h", "--help"} & set(sys.argv):
        print(docstrings()[name], end="\n\n", flush=True)
    sys.argv[0] = f"python -m benchmarks {name}"  # what argparse shows as the usage
    return importlib.import_module(f"benchmarks.{name}").main() or 0


if __name__ == "__main__":
    sys.exit(main())
