"""Ships `datasets/`, which may be no package of that name, as `fer_jax._datasets`."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

builders = {
    f"fer_jax._datasets.{file.parent.name}": str(file.parent)
    for file in Path("datasets").glob("*/*_dataset_builder.py")
}
setup(
    packages=[*find_namespace_packages(include=["fer_jax*"]), *builders],
    package_dir=builders,
    package_data={"fer_jax": ["evaluation/templates/*", "starter/*"]}
    | {name: ["README.md", "TAGS.txt", "CITATIONS.bib"] for name in builders},
)
