"""Licence, citation, continuous integration and issue forms, the files that hosting sites read; and the Makefile."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helpers import REPOSITORY

FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
# https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests/syntax-for-githubs-form-schema
ELEMENTS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def read(path: str | Path) -> dict:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


def test_licence():
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) the CFAT project's contributors\n")
    assert "LICENSE" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_citation_is_that_of_the_readme():
    citation = read("CITATION.cff")
    readme = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["doi"] in readme
    assert paper["title"] in readme
    assert ", ".join(author["family-names"] for author in paper["authors"]) in readme


def test_workflow_runs_lint_and_tests_on_every_supported_python():
    workflow = read(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python-version"] == ["3.10", "3.11", "3.12", "3.13"]
    assert workflow["permissions"] == {"contents": "read"}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    script = (REPOSITORY / commands[0]).read_text(encoding="utf-8")
    assert [line for line in script.splitlines() if line.startswith("make ")] == [
        "make setup",
        "make lint",
        "make test",
    ]


def test_the_oldest_python_is_the_same_everywhere():
    """ruff reports syntax, and mypy names of the standard library, that the oldest Python lacks."""
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    lines = ('requires-python = ">=3.10"', 'target-version = "py310"', 'python_version = "3.10"')
    assert [project.count(line) for line in lines] == [1, 1, 1]
    assert "Python 3.10 or newer" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_sources_parse_on_the_oldest_python():
    for path in REPOSITORY.glob("*/**/*.py"):
        if not any(part.startswith(".") or part == "build" for part in path.relative_to(REPOSITORY).parts):
            ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms(path):
    form = read(path)
    if path.stem == "config":
        assert form["blank_issues_enabled"] in (True, False)
        return
    assert {"name", "description", "body"} <= form.keys()
    assert {element["type"] for element in form["body"]} <= ELEMENTS
    ids = [element["id"] for element in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(element["attributes"]["label"] for element in form["body"])


def test_there_is_a_form_for_bugs_and_one_for_features():
    assert [path.stem for path in FORMS] == ["bug", "config", "feature"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("options", "page"), [([], "logs/demo"), (["QUICK=1"], "logs/quick")])
def test_the_commands_of_make_demo_are_whole(options, page, tmp_path):
    """The shell reads each, and the last ones name the report."""
    (tmp_path / ".ready").touch()
    command = ["make", "--dry-run", "demo", *options, f"VENV={tmp_path}", "--old-file", str(tmp_path / ".ready")]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    read = subprocess.run(["sh", "-n"], input=printed, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert f"Open {page}/report.html in a browser" in printed
    assert ("QUICK=1" in printed) == bool(options)
