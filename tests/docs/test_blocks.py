"""Every block of the documents: of a known language, and valid; commands are run by test_commands.py."""

import ast
import re
import shlex

import pytest
import yaml

import test
import train
from config import load_cfg
from tests.docs.pages import LANGUAGES, PAGES, blocks, name_of, without_blocks
from tests.docs.sandbox import Sandbox
from tests.docs.tables import NOT_RUN, SHORTENED, is_run
from tests.helpers import REPOSITORY
from utils.errors import UserError

# Script -> the parser of its arguments.
PARSERS = {"train.py": train.parse_args, "test.py": test.parse_args}
MODULES = ("corruption", "datasets", "processor")
SCRIPTS = {"docs/results.py", "docs/render_images.py"}
pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """(page, command as words) of every command in a `bash` block, as bash passes them on; nothing runs."""
    found = []

    def record(command):
        found.append((name, command))
        return 0

    sandbox = Sandbox(tmp_path_factory.mktemp("blocks") / "repository")
    errors = []
    for page in PAGES:
        name = name_of(page)
        for block in blocks(page):
            if block.language == "bash":
                text = f"set +e\n{block.text}"  # files that no command made are missing
                _, stderr = sandbox.run(text, record)
                errors += [f"{name}:{block.line}: {line}" for line in stderr.splitlines() if "No such file" not in line]
    assert not errors, "\n".join(errors)
    return found


@pages
def test_blocks_are_fenced_and_of_a_known_language(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    text = without_blocks(page)
    assert "```" not in text
    indented = [line for line in re.findall(r"^\n(    .*)$", text, re.MULTILINE) if not re.match(r" +[-*\d]", line)]
    assert not indented, f"{name_of(page)}: put these blocks between ```bash (options, yaml, text) and ```"


@pages
def test_lines_are_at_most_120_characters(page):
    """Rows of tables aside, which cannot be wrapped."""
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > 120 and not line.startswith("|")]
    assert not long, f"{name_of(page)}: {long}"


def test_the_readme_is_short():
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 200
    assert max(map(len, lines)) <= 120


@pages
def test_python_parses_on_the_oldest_python(page):
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, filename=f"{name_of(page)}:{block.line}", feature_version=(3, 10))


@pages
def test_options_are_keys_with_valid_values(page):
    for block in blocks(page):
        if block.language == "options":
            for line in block.text.splitlines():
                load_cfg(None, shlex.split(line, comments=True))


@pages
def test_yaml_is_read(page):
    for block in blocks(page):
        if block.language == "yaml":
            assert yaml.safe_load(block.text), f"{name_of(page)}:{block.line}"


def test_commands_are_known_and_their_options_valid(commands):
    for page, (program, *arguments) in commands:
        if page == "docs/adding.md":  # tests/test_adding.py runs them, with the keys that the page adds
            continue
        command = " ".join([program, *arguments])
        if not is_run(command) or program == "make":
            assert program != "make" or arguments[0] in targets(), f"{page}: {command}"
            continue
        script = next(word for word in arguments if word.endswith(".py") or word in MODULES)
        if script in MODULES:
            assert arguments[:2] == ["-m", script], f"{page}: {command}"
        elif script in PARSERS:
            check_options(script, arguments[arguments.index(script) + 1 :], f"{page}: {command}")
        else:
            assert script in SCRIPTS or script.startswith("tests/benchmarks/"), f"{page}: {command}"
            assert (REPOSITORY / script).is_file(), f"{page}: {command}"


def targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())


def check_options(script: str, arguments: list[str], where: str) -> None:
    """Parses the arguments of train.py or test.py, and loads the configuration that they give."""
    try:
        args = PARSERS[script](arguments)
        exists = args.config_file is None or (REPOSITORY / args.config_file).is_file()
        load_cfg(str(REPOSITORY / args.config_file) if args.config_file and exists else None, args.opts)
    except (SystemExit, UserError) as error:
        raise AssertionError(f"{where}: {error}") from error


@pytest.mark.parametrize("start", NOT_RUN)
def test_no_entry_of_not_run_is_stale(start, commands):
    assert any(" ".join(command).startswith(start) for _, command in commands)


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in SHORTENED])
def test_no_entry_of_shortened_is_stale(pattern, commands):
    assert any(re.search(pattern, " ".join(command)) for _, command in commands)


@pytest.mark.parametrize(
    ("text", "error"), [("nosuchprogram x", "command not found"), ("for i in 1; do", "syntax error")]
)
def test_what_bash_does_not_know_is_an_error(text, error, tmp_path):
    assert error in Sandbox(tmp_path / "repository").run(text, lambda command: 0)[1]


def test_a_failed_command_ends_its_block(tmp_path):
    asked = []

    def fail(command):
        asked.append(command)
        return 3

    status, _ = Sandbox(tmp_path / "repository").run('python "a b" --c \\\n  $((1 + 1))\npython later', fail)
    assert (status, asked) == (3, [["python", "a b", "--c", "2"]])
