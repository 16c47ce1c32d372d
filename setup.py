"""Ships `datasets/` and `configs/` inside the package: outside a checkout the names are taken."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

folders = {
    f"fer_jax._datasets.{file.parent.name}": str(file.parent)
    for file in Path("datasets").glob("*/*_dataset_builder.py")
} | {"fer_jax._configs": "configs"}
setup(
    packages=[*find_namespace_packages(include=["fer_jax*"]), *folders],
    package_dir=folders,
    package_data={
        "fer_jax": ["py.typed", "languages/*", "report/templates/*", "web/page/*", "starter/*"]
    }
    | {name: ["README.md", "TAGS.txt", "CITATIONS.bib"] for name in folders},
)
