"""Writes a table of FER2013 without duplicates, for the stage `photographs`.

    python -m benchmarks fer2013 FOLDER        # contains labels.csv, train/, validation/, test/

Writes FOLDER/four.csv (path, subject, emotion, split), or with --seven FOLDER/seven.csv of all
seven emotions. The pictures are selected as in the data set `starter_faces`, which leaves out
altered copies and contradictory labels. Of several pictures with the same pixels, one is kept: a
picture of the test split if there is any, otherwise of the validation split, otherwise of the train
split. FER2013 has no ids of people, so each picture counts as a separate person, and accuracy on
its splits is not accuracy on held-out people.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fer_jax.data import builders

FOUR = ("angry", "happy", "neutral", "sad")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seven", action="store_true", help="all seven emotions, in seven.csv")
    options = parser.parse_args()
    faces = sys.modules[builders.builder_class("starter_faces").__module__]
    emotions, name = (faces.EMOTIONS, "seven.csv") if options.seven else (FOUR, "four.csv")
    kept, dropped = faces.clean(options.folder, emotions)
    kept.insert(1, "subject", kept["path"].map(lambda path: Path(path).stem))
    kept.to_csv(options.folder / name, index=False)
    print(f"{len(kept)} pictures of {', '.join(emotions)}")
    print("dropped:", ", ".join(f"{count} {reason}" for reason, count in dropped.items()))
    print(kept.groupby(["split", "emotion"]).size().unstack().to_string())


if __name__ == "__main__":
    main()
