"""Measures how often the 95 % interval over people contains the true accuracy, by simulation.

    python -m benchmarks coverage                 # 1,000 studies per design, 4 minutes on one core
    python -m benchmarks coverage --studies=200

In a study, the accuracy of each person is drawn from Beta(a, b). About half of the photographs of a
person show each of two emotions. The true accuracy is a / (a + b). Prints, for each design, the
share of studies whose interval contains it, with the percentile method, BCa and the method of
fer_jax, and the mean width of the intervals of fer_jax in percentage points.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fer_jax.metrics import bootstrap, measures

# people, photographs per person, Beta(a, b), description
DESIGNS = (
    (15, 8, 8.0, 2.0, "80 %, usual spread"),
    (15, 4, 8.0, 2.0, "80 %, fewer photographs"),
    (15, 8, 18.0, 2.0, "90 %"),
    (15, 4, 18.0, 2.0, "90 %, fewer photographs"),
    (15, 3, 27.0, 3.0, "90 %, little spread"),
    (15, 8, 3.0, 2.0, "60 %, wide spread"),
    (15, 4, 1.5, 1.5, "50 %, very wide spread"),
    (15, 8, 80.0, 20.0, "80 %, little spread"),
    (15, 8, 0.8, 0.2, "80 %, people all or nothing"),
    (10, 8, 8.0, 2.0, "10 people"),
    (40, 8, 8.0, 2.0, "40 people"),
)
METHODS = ("percentile", "BCa", "reported")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    started = time.perf_counter()
    print(f"{'design':34s}" + "".join(f"{name:>12s}" for name in METHODS) + "   width")
    for people, photographs, a, b, words in DESIGNS:
        covered, width = coverage(
            people, photographs, a, b, flags.studies, flags.samples, flags.seed
        )
        name = f"{people} × {photographs}, {words}"
        shares = "".join(f"{100 * covered[method]:11.1f}%" for method in METHODS)
        print(f"{name:34s}{shares}   {100 * width:.1f}", flush=True)
    print(f"{flags.studies} studies per design, {time.perf_counter() - started:.0f} s")


def coverage(
    people: int, photographs: int, a: float, b: float, studies: int, samples: int, seed: int
) -> tuple[dict[str, float], float]:
    """The share of studies whose interval contains the true accuracy, by method.

    Also returns the mean width of the "reported" interval, that of fer_jax.
    """
    rng = np.random.default_rng(seed)
    truth = a / (a + b)
    held = dict.fromkeys(METHODS, 0)
    widths = []
    for study in range(studies):
        by_person = draw_study(rng, people, photographs, a, b)
        draws = bootstrap.draw_people(people, samples=samples, seed=study)
        replicates = bootstrap.replicate(by_person, draws)["accuracy"]
        left_out = measures.measures(bootstrap.leave_one_out(by_person))["accuracy"]
        value = float(measures.measures(by_person.sum(axis=0))["accuracy"])
        found = bootstrap.estimate(by_person, samples=samples, seed=study)["accuracy"]
        ends = {
            "percentile": tuple(np.quantile(replicates, [0.025, 0.975])),
            "BCa": bootstrap.interval(value, replicates, left_out, expand=False),
            "reported": (found.low, found.high),
        }
        for method, (low, high) in ends.items():
            held[method] += low - 1e-9 <= truth <= high + 1e-9
        widths.append(found.high - found.low)
    return {method: count / studies for method, count in held.items()}, float(np.mean(widths))


def draw_study(
    rng: np.random.Generator, people: int, photographs: int, a: float, b: float
) -> np.ndarray:
    """Draws one confusion matrix per person, [people, 2, 3]; the third column, no face, is 0."""
    ability = rng.beta(a, b, people)
    by_person = np.zeros((people, 2, 3))
    for emotion in range(2):
        shown = photographs // 2 + (emotion if photographs % 2 else 0)
        right = rng.binomial(shown, ability)
        by_person[:, emotion, emotion] = right
        by_person[:, emotion, 1 - emotion] = shown - right
    return by_person


if __name__ == "__main__":
    main()
