r"""Measures the starter on emotions, and on faces and non-faces.

    python -m benchmarks measure_starter --workdir=WORK/starter --split=validation
    python -m benchmarks measure_starter --workdir=WORK/starter --split=test \
        --faces DIR --nonfaces DIR

`--workdir` is the workdir in which the starter was trained; its config names the data. `--model` is
the measured model, by default the one that ships with fer_jax. Make choices on the split
`validation`; use `test` once.

Emotions: accuracy on FER2013 without duplicates, for the original 48x48 pictures (the usual
protocol) and for the aligned crops, with all seven classes and with four of them (the most probable
of the four, on pictures of these four); each also without the pictures that seem to be near copies
of a picture in the training split (FER2013 contains retouched and cropped versions of the same
photograph). Balanced accuracy, macro F1 and the confusion matrix are those of all seven classes.

Faces: the shares of faces lost and non-faces removed at the threshold 0.5 and at the one that loses
1 % of the validation split's aligned faces, and the area under the ROC curve of each source of
faces against all non-faces, and of all faces against each source of non-faces. `--faces` and
`--nonfaces` are folders of pictures, <source>/*, of sources that the training did not use. Pass
such faces, since those of FER2013 resemble each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, roc_auc_score

from benchmarks.pack_starter import opened
from fer_jax.auditing import likeness
from fer_jax.data import sources
from fer_jax.faces.images import SUFFIXES
from fer_jax.records import Inference
from fer_jax.training import inference, trained_model
from fer_jax.training.gradients import descriptors

FOUR = ("angry", "happy", "neutral", "sad")
LOST = 0.01  # share of the validation split's aligned faces below the threshold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--nonfaces", type=Path)
    options = parser.parse_args()
    config = json.loads((options.workdir / "config.json").read_text())
    model = trained_model.load(options.model)
    source = opened(config, options.split, options.workdir)
    kinds = kinds_of(source)
    trained_on = opened(config, "train", options.workdir)
    for kind in ("original", "aligned"):
        images = source.images[kinds == kind]
        copies = near_copies(images, trained_on.images[kinds_of(trained_on) == kind])
        print(f"\n{kind}, {options.split}: {len(images)} faces, {copies.sum()} near copies")
        emotions(model, images, source.task_labels["label_emotion"][kinds == kind], copies)

    held_out = opened(config, "validation", options.workdir)
    aligned = np.array([name.startswith("aligned/") for name in held_out.ids])
    threshold = float(np.quantile(face_scores(model, held_out.images[aligned]), LOST))
    print(f"\nface or non-face: shares at the threshold 0.5 / at {threshold:.4f}")
    size = model.record.image_size
    faces = {kind: source.images[kinds == kind] for kind in ("original", "aligned", "face")}
    faces |= {f"own {name}": images for name, images in folders(options.faces, size)}
    others = dict(by_source(source, kinds))
    others |= {f"own {name}": images for name, images in folders(options.nonfaces, size)}
    verification(
        {n: face_scores(model, images) for n, images in faces.items() if len(images)},
        {n: face_scores(model, images) for n, images in others.items()},
        threshold,
    )


def kinds_of(source: sources.ArraySource) -> np.ndarray:
    return np.array([name.split("/")[0] for name in source.ids])


def near_copies(images: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Whether each image looks like a copy of a training image, bool [n]."""
    faces, pool = (
        likeness.Faces([str(row) for row in range(len(crops))], crops, descriptors(crops))
        for crops in (enlarged(images), enlarged(trained_on))
    )
    found = np.zeros(len(images), bool)
    found[[row for row, _, _ in likeness.copies(faces, pool)]] = True
    return found


def enlarged(images: np.ndarray) -> np.ndarray:
    side = (likeness.SIZE, likeness.SIZE)
    shape = (len(images), *side, 3)
    crops = [cv2.resize(image, side, interpolation=cv2.INTER_LINEAR) for image in images]
    return np.reshape(crops, shape).astype(np.uint8)


def emotions(
    model: trained_model.Model, images: np.ndarray, truth: np.ndarray, copies: np.ndarray
) -> None:
    labels = model.record.labels["emotion"]
    four = [labels.index(name) for name in FOUR]
    for name, how in {
        "one face": Inference(),
        "five crops": Inference(crops=inference.CROPS),
        "as it ships": model.record.inference["emotion"],
    }.items():
        record = model.record.model_copy(update={"inference": {"emotion": how}})
        asked = model.replaced(record, model.weights)
        probabilities = asked.answers("emotion", asked.features_of_crops("emotion", images))
        answers = probabilities.argmax(axis=1)
        right = answers == truth
        among = np.isin(truth, four)
        best = np.array(four)[probabilities[:, four].argmax(axis=1)] == truth
        print(
            f"  {name}, with mirror images: accuracy {right.mean():.2%}, "
            f"balanced {balanced_accuracy_score(truth, answers):.2%}, macro F1 "
            f"{f1_score(truth, answers, average='macro'):.3f}; four classes "
            f"{best[among].mean():.2%} of {among.sum()}; without near copies "
            f"{right[~copies].mean():.2%}, four classes {best[among & ~copies].mean():.2%}"
        )
    print("  confusion matrix as it ships, in per cent of each true emotion:")
    table = confusion_matrix(truth, answers, normalize="true")
    for name, row in zip(labels, table, strict=True):
        print(f"    {name:9}" + "".join(f"{100 * share:6.1f}" for share in row))


def face_scores(model: trained_model.Model, images: np.ndarray) -> np.ndarray:
    return model.answers("verification", model.features("verification", images))[:, 1]


def by_source(source: sources.ArraySource, kinds: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    names = np.array(
        [name.split("/")[2] if name.startswith("nonface/") else "" for name in source.ids]
    )
    for name in sorted(set(names[kinds == "nonface"])):
        yield name, source.images[names == name]


def folders(root: Path | None, size: int) -> Iterator[tuple[str, np.ndarray]]:
    for folder in sorted(root.iterdir()) if root else ():
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        yield folder.name, sources.read_images(files, size)


def verification(
    faces: dict[str, np.ndarray], others: dict[str, np.ndarray], threshold: float
) -> None:
    """Prints, by source, the faces lost or non-faces removed, and the area under the ROC curve.

    Args:
        faces: the scores of faces, by source.
        others: the scores of non-faces, by source.
        threshold: the second threshold, in addition to 0.5.
    """
    every_face, every_other = (np.concatenate(list(x.values())) for x in (faces, others))
    for name, scores in [*faces.items(), ("all", every_face)]:
        lost = [f"{(scores < cut).mean():.2%}" for cut in (0.5, threshold)]
        area = area_under_roc(scores, every_other)
        print(f"  faces {name:20} {len(scores):6d}: lost {lost[0]} / {lost[1]}, AUC {area:.4f}")
    for name, scores in [*others.items(), ("all", every_other)]:
        removed = [f"{(scores < cut).mean():.2%}" for cut in (0.5, threshold)]
        area = area_under_roc(every_face, scores)
        print(
            f"  non-faces {name:16} {len(scores):6d}: removed {removed[0]} / {removed[1]}, "
            f"AUC {area:.4f}"
        )


def area_under_roc(faces: np.ndarray, others: np.ndarray) -> float:
    truth = np.repeat([1, 0], [len(faces), len(others)])
    return float(roc_auc_score(truth, np.concatenate([faces, others])))


if __name__ == "__main__":
    main()
