"""The one YAML reader: YAML 1.2's core schema, one document, unique keys, no tags."""

import math

import pytest
import yaml

from config import get_defaults
from utils.errors import UserError
from utils.yaml_reader import MAX_DEPTH, NotYamlError, load_mapping, load_yaml, read_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1", 1),
        ("1e-4", 1e-4),
        ("-.INF", -math.inf),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        (str(2**63 - 1), 2**63 - 1),
        ("0" * 100 + "7", 7),
        ("0e-400", 0.0),
        # numbers, switches and dates of YAML 1.1 and of Python
        *((text, text) for text in ("yes", "No", "on", "OFF", "y", "1:30", "1_000", "0b1", "2024-01-01", "inf", "nan")),
        *(
            (text, text)
            for text in (".5.", "1.2.3", "0O17", "0X1F", "+0x1F", "1e", "e3", "\u0661", "tRue", "0o8", "- 1")
        ),
    ],
)
def test_scalars_follow_the_core_schema(text, value):
    found = read_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number():
    assert math.isnan(read_scalar(".NaN"))


@pytest.mark.parametrize(
    "text", [str(2**63), str(-(2**63) - 1), "9" * 400, "9" * 5000, "0x" + "f" * 17, "1e400", "1e-400"]
)
def test_numbers_that_no_type_holds(text):
    with pytest.raises(ValueError, match=r"more than 64 bits|is too large|is too small"):
        read_scalar(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\ufeffa: 1\r\nb: [x, 'y', \"z\"]\r\n", {"a": 1, "b": ["x", "y", "z"]}),
        ("1: 2\nyes: 3\n~: 4\n", {"1": 2, "yes": 3, "~": 4}),
        ("a: '010'\nb: !!str 010\nc: !!int '3'\n", {"a": "010", "b": "010", "c": 3}),
        (
            "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [{a: 0}, *x]}\n",
            {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 0, "b": 2}},
        ),
        ("'<<': 1", {"<<": 1}),
        ("", None),
        ("# nothing\n", None),
        ("---\na: 1\n...\n", {"a": 1}),
        ("%YAML 1.1\n---\na: 010\n", {"a": 10}),
    ],
)
def test_documents(text, value):
    assert load_yaml(text, "a.yml") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1,\n  c: 1}\n", "a.yml: line 3: b.c is given twice"),
        ("a: 1\n---\nb: 2\n", "a.yml: line 2: a second document begins"),
        ("a: !!python/name:os.system ''", "a.yml: line 1: the tag tag:yaml.org,2002:python/name:os.system is not read"),
        ("a: 1\n? [b]\n: 2\n", "a.yml: line 2: found a list, a section or an alias as a key"),
        ("a: *b", "a.yml: line 1: *b stands for nothing"),
        ("a: {<<: 3}", "a.yml: line 1: <<: found 3, expected a section"),
        (
            "a:\n\tb: 1",
            "a.yml: not valid YAML: line 2, column 1: found character '\\t' that cannot start any token; YAML",
        ),
        ("a: \0", "a.yml: not valid YAML: unacceptable character #x0000"),
        ("a:\n  b: 9e999", "a.yml: line 2: a.b: the number 9e999 is too large"),
        ("[" * (MAX_DEPTH + 2), f"a.yml: line 1: nested more than {MAX_DEPTH} deep"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, message):
    with pytest.raises(UserError) as caught:
        load_yaml(text, "a.yml")
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, NotYamlError) == ("not valid YAML" in message)


def test_keys_of_texts_keep_them_as_written():
    text = "a: 1e3\nb: {c: 010, d: [no, 0x1]}\ne: 010\nf:\n"
    assert load_yaml(text, "", as_text=("a", "b.c", "b.d.[]", "f")) == {
        "a": "1e3",
        "b": {"c": "010", "d": ["no", "0x1"]},
        "e": 10,
        "f": None,
    }


def test_dumps_of_earlier_versions_mean_the_same():
    """PyYAML writes YAML 1.1; it quotes what 1.1 reads as another type, so that 1.2 reads the same values."""
    text = get_defaults().dump()
    assert load_yaml(text, "") == yaml.safe_load(text)
    values = {"a": [1e-5, 1e22, -0.1, 2**40, True, None, "010", "no", "1:30", "1_000", "2024-01-01", "=", "a: b"]}
    assert load_yaml(yaml.safe_dump(values), "") == values


@pytest.mark.parametrize("text", ["- 1", "3", {"a": 1}, None, b"a: 1"])
def test_a_mapping_is_text_with_sections(text):
    with pytest.raises(UserError, match=r"^x: found .*, expected sections of keys"):
        load_mapping(text, "x")
    assert load_mapping("", "x") == {}
