"""The revision in environment.json is that of fer_jax, never that of another repository."""

import subprocess
from pathlib import Path

import pytest

import fer_jax
from fer_jax import environment


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit, and a function that runs git there."""

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    git("init", "--quiet")
    (tmp_path / "thesis.tex").write_text("x")
    git("add", "thesis.tex")
    git("commit", "--quiet", "-m", "thesis")
    return tmp_path, git


def make_package(folder):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    return folder


def test_the_revision_of_a_checkout_is_recorded(repository):
    root, git = repository
    package = make_package(root / "fer_jax")
    git("add", ".")
    git("commit", "--quiet", "-m", "package")
    revision = environment.git_revision(package)
    assert len(revision) == 12
    (package / "__init__.py").write_text("changed")
    environment.git_revision.cache_clear()
    assert environment.git_revision(package) == f"{revision}-dirty"


def test_the_revision_of_another_project_is_not(repository, monkeypatch):
    root, git = repository
    installed = make_package(root / ".venv" / "site-packages" / "fer_jax")
    copied = make_package(root / "fer_jax")  # in a repository of another project, not tracked
    assert environment.git_revision(installed) == "no git checkout"
    assert environment.git_revision(copied) == "no git checkout"
    git("add", "--force", ".venv")  # tracked, but not the checkout's own package
    assert environment.git_revision(installed) == "no git checkout"
    monkeypatch.setenv("GIT_DIR", str(root / ".git"))  # as in a hook of that project
    assert environment.git_revision(make_package(root.parent / "elsewhere")) == "no git checkout"


def test_the_environment_has_the_version_of_the_package():
    found = environment.environment()
    assert found["fer_jax"] == fer_jax.__version__
    assert found["git_revision"] == environment.git_revision(Path(fer_jax.__file__).parent)
