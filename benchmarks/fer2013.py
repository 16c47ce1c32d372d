"""fer2013 without its copies: a table that the stage `photographs` reads.

    python -m benchmarks fer2013 FOLDER        # as laid out: labels.csv, train/, validation/, test/

Writes FOLDER/four.csv (path, subject, emotion, split), or with --seven FOLDER/seven.csv of all
seven emotions, without the altered copies that some copies of the set hold (`name.jpg3.jpg`).
fer2013 has no ids of people, so each picture passes for a person of its own: what is measured on
its splits is not performance on people never seen.

The same pixels occur several times, in several splits and with several labels. Of such pictures
one is kept, the one in the split that stands first in test, validation, train, so that nothing
that is tested is also trained on; where their labels differ, none is.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import cv2
import pandas as pd

FOUR = ("angry", "happy", "neutral", "sad")
SEVEN = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
ALTERED_COPY = r"\.jpg\d+\.jpg$"
ORDER = ("test", "validation", "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seven", action="store_true", help="all seven emotions")
    options = parser.parse_args()
    folder, emotions = options.folder, SEVEN if options.seven else FOUR
    table = pd.read_csv(folder / "labels.csv")
    altered = table["path"].str.contains(ALTERED_COPY)
    table = table[table["emotion"].isin(emotions) & ~altered].copy()
    table["digest"] = [digest(folder / path) for path in table["path"]]
    labels = table.groupby("digest")["emotion"].transform("nunique")
    conflicting = table[labels > 1]
    kept = table[labels == 1].copy()
    kept["rank"] = kept["split"].map(ORDER.index)
    kept = kept.sort_values(["rank", "path"]).drop_duplicates("digest")
    kept["subject"] = kept["path"].map(lambda path: Path(path).stem)
    kept.sort_values("path")[["path", "subject", "emotion", "split"]].to_csv(
        folder / ("seven.csv" if options.seven else "four.csv"), index=False
    )
    print(f"{len(table)} pictures of {', '.join(emotions)}")
    print(f"  {len(conflicting)} dropped: the same pixels with different labels")
    print(f"  {len(table) - len(conflicting) - len(kept)} dropped: copies of one that is kept")
    print(kept.groupby(["split", "emotion"]).size().unstack().to_string())


def digest(path: Path) -> str:
    """Of the pixels, whatever the file's encoding."""
    return hashlib.sha256(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).tobytes()).hexdigest()


if __name__ == "__main__":
    main()
