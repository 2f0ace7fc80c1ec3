"""Loading, merging and checking of configurations, and the schema in config/defaults.py."""

from pathlib import Path

import pytest
from yacs.config import CfgNode

from config import ConfigError, get_defaults, load_cfg, load_stored_cfg
from config.defaults import SCHEMA
from config.schema import ANYTHING, BELOW_ONE, POSITIVE, PROBABILITY, at_least, in_order, list_of, one_of, some_of
from tests.helpers import REPOSITORY
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def flat(node: CfgNode, prefix: str = "") -> dict:
    leaves = {}
    for name, value in node.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {f"{prefix}{name}": value}
    return leaves


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def errors_of(config_file=None, opts=()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_cfg(config_file, opts)
    headline, *errors = str(caught.value).split("\n  ")
    assert headline == f"{len(errors)} error{'s' if len(errors) > 1 else ''} in the configuration:"
    return errors


def test_nothing_given_is_the_defaults_frozen():
    cfg = load_cfg()
    assert flat(cfg) == flat(get_defaults())
    with pytest.raises(AttributeError, match="immutable"):
        cfg.SOLVER.BASE_LR = 1.0


def test_get_defaults_is_a_fresh_clone():
    first = get_defaults()
    first.SOLVER.STEPS.append(7)
    first.SEED = 3
    assert get_defaults().SOLVER.STEPS == [40, 70]
    assert get_defaults().SEED == 1234


def test_the_defaults_are_plain_values_of_the_schema():
    defaults = flat(get_defaults())
    assert defaults == {name: key.default for name, key in SCHEMA.items()}
    assert {type(value) for value in defaults.values()} == {bool, int, float, str, list}


def test_default_values_keep_their_own_rules():
    assert [name for name, key in SCHEMA.items() if not key.rule.accepts(key.default)] == []
    lengths = {name: key.rule.length for name, key in SCHEMA.items() if key.rule.length}
    assert lengths == {name: len(SCHEMA[name].default) for name in lengths}


def test_every_number_and_list_has_a_rule():
    without = {name: key.default for name, key in SCHEMA.items() if key.rule is ANYTHING}
    assert [name for name, default in without.items() if not isinstance(default, bool | str)] == []


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (one_of("a", ""), ["a", ""], ["b"]),
        (one_of(1, 2), [1, 2], [3]),
        (at_least(2), [2, 1e9], [1, float("inf"), float("nan")]),
        (POSITIVE, [1e-9, 5], [0, -1, float("inf"), float("nan")]),
        (PROBABILITY, [0, 1], [-0.1, 1.1, float("nan")]),
        (BELOW_ONE, [0, 0.9], [1, -0.1]),
        (list_of("", lambda value: value > 0), [[], [1, 1]], [[0], [1, 0]]),
        (some_of(("a", "b")), [["b", "a"], ["a"]], [[], ["a", "a"], ["c"]]),
        (in_order(("a", "b", "c")), [["a", "c"], ["b"]], [[], ["c", "a"], ["a", "a"], ["d"]]),
    ],
)
def test_rules(rule, right, wrong):
    assert [rule.accepts(value) for value in right] == [True] * len(right)
    assert [rule.accepts(value) for value in wrong] == [False] * len(wrong)


EXPERIMENTS = sorted(path for path in (ROOT / "configs").rglob("*.yml") if path.name != "ablation.yml")


def test_a_study_is_no_experiment():
    with pytest.raises(ConfigError, match="a file of a study .*: it is run by python -m processor study FILE"):
        load_cfg(str(ROOT / "configs" / "Synthetic" / "ablation.yml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_shipped_files_load_without_a_warning(path, caplog):
    load_cfg(str(path))
    assert [record.message for record in caplog.records] == []


def test_market_cfat_is_the_defaults():
    assert flat(load_cfg(str(ROOT / "configs/Market/cfat.yml"))) == flat(get_defaults())


def test_a_dumped_configuration_loads_again(tmp_path):
    cfg = load_cfg(None, ["SOLVER.BASE_LR", "1e-5", "TEST.COMPARE", "logs/a", "CFAT.STAGES", "['clean', 'align']"])
    assert flat(load_cfg(write(tmp_path / "config.yml", cfg.dump()))) == flat(cfg)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SEED", "7", 7),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("MODEL.JPM", "True", True),
        ("MODEL.JPM", "true", True),
        ("OUTPUT_DIR", "2024", "2024"),
        ("OUTPUT_DIR", "'logs/a b'", "logs/a b"),
        ("TEST.WEIGHT", "None", "None"),
        ("MODEL.STRIDE_SIZE", "[12,12]", [12, 12]),
        ("MODEL.STRIDE_SIZE", "(12, 12)", [12, 12]),
        ("CORRUPTION.TRAIN", "all", ["all"]),
        ("CORRUPTION.TRAIN", "[noise, rain]", ["noise", "rain"]),
        ("CORRUPTION.TRAIN", "['noise', 'rain']", ["noise", "rain"]),
        ("CORRUPTION.SEVERITIES", "3", [3]),
        ("TEST.COMPARE", "[]", []),
        ("INPUT.PIXEL_MEAN", "[0, 0.5, 1]", [0.0, 0.5, 1.0]),
        ("MODEL.DEVICE", "cuda:1", "cuda:1"),
    ],
)
def test_command_line_values(key, text, expected):
    value = flat(load_cfg(None, [key, text]))[key]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SEED", "010", 10),
        ("SEED", "0o10", 8),
        ("SEED", "0x1F", 31),
        ("SOLVER.MAX_EPOCHS", "012", 12),
        ("SOLVER.STEPS", "[040,070]", [40, 70]),
        ("SOLVER.STEPS", "(040, 070)", [40, 70]),
        ("SOLVER.BASE_LR", "1e-3", 1e-3),
        ("SOLVER.BASE_LR", "'010'", 10.0),
        ("OUTPUT_DIR", "010", "010"),
        ("OUTPUT_DIR", "1e3", "1e3"),
        ("OUTPUT_DIR", "2024-01-01", "2024-01-01"),
        ("OUTPUT_DIR", "no", "no"),
        ("TEST.COMPARE", "[a, b]", ["a", "b"]),
        ("SOLVER.AMP", "off", "off"),
        ("TEST.FEAT_NORM", "no", False),
        ("TEST.FEAT_NORM", "On", True),
        ("TEST.FEAT_NORM", "('yes')", True),
        ("TEST.FEAT_NORM", "('False')", False),
        ("DATASETS.NAMES", "market1501", ["market1501"]),
        ("DATASETS.NAMES", "('market1501')", ["market1501"]),
        ("DATASETS.NAMES", "('market1501',)", ["market1501"]),
        ("DATASETS.NAMES", "('market1501', 'msmt17')", ["market1501", "msmt17"]),
        ("DATASETS.NAMES", "[market1501, 'folder:photos/gate 2']", ["market1501", "folder:photos/gate 2"]),
        ("DATASETS.NAMES", "[csv, csv]", "expected one or more data sets, each once"),
        ("DATASETS.NAMES", "[]", "expected one or more data sets, each once"),
        ("DATASETS.TEST", "[]", []),
        ("DATASETS.TEST", "cuhk03", ["cuhk03"]),
        ("OUTPUT_DIR", "('../logs/x')", "../logs/x"),
        ("SOLVER.BASE_LR", "('0.008')", 0.008),
        ("SOLVER.IMS_PER_BATCH", "(64)", 64),
        ("INPUT.SIZE_TRAIN", "('256', '128')", [256, 128]),
        ("SEED", "1_000", "expected an integer; write 1000"),
        ("SEED", "0b11", "expected an integer; write 3"),
        ("SOLVER.MAX_EPOCHS", "1:30", "expected an integer; numbers to the base of 60 are not read, write it out"),
        ("SOLVER.BASE_LR", "0,05", "expected a number; decimals have a point: 0.05"),
        ("SOLVER.STEPS", "40,70", "expected a list of integers; write [40,70]"),
        ("INPUT.SIZE_TEST", "256, 128", "expected a list of 2 integers; write [256, 128]"),
        ("INPUT.PIXEL_MEAN", "0.5,.5,5e-1", "expected a list of 3 numbers; write [0.5,.5,5e-1]"),
        ("SOLVER.STEPS", "[1_0, 20]", "expected a list of integers; write 10"),
        ("SOLVER.BASE_LR", ".5.", "expected a number"),
        ("SOLVER.BASE_LR", "nan", "expected a number"),
        ("SOLVER.BASE_LR", "1e400", "the number 1e400 is too large; infinity is written .inf"),
        ("SEED", "9" * 400, f"the integer {'9' * 24}... has more than 64 bits"),
        ("SEED", "2024-01-01", "expected an integer"),
        ("MODEL.CHECKPOINT_ENTRY", "('a', 'b')", "expected a string"),
    ],
)
@pytest.mark.parametrize("where", ["file", "command line"])
def test_texts_mean_the_same_in_files_and_on_the_command_line(key, text, expected, where, tmp_path):
    section, _, leaf = key.rpartition(".")
    path, opts = None, [key, text]
    if where == "file":
        path, opts = (
            write(tmp_path / "a.yml", f"{section}:\n  {leaf}: {text}\n" if section else f"{leaf}: {text}\n"),
            [],
        )
    if isinstance(expected, str) and " " in expected:
        (error,) = errors_of(path, opts)
        assert error.endswith(expected)
        return
    value = flat(load_cfg(path, opts))[key]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SOLVER.BASE_LR", "'1e-4'", 1e-4),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("SOLVER.MAX_EPOCHS", "'60'", 60),
        ("INPUT.SIZE_TRAIN", "[128, 64]", [128, 64]),
        ("CORRUPTION.TEST", "noise", ["noise"]),
        ("MODEL.JPM", "yes", True),
    ],
)
def test_yaml_values(key, text, expected, tmp_path):
    section, leaf = key.split(".")
    value = flat(load_cfg(write(tmp_path / "a.yml", f"{section}:\n  {leaf}: {text}\n")))[key]
    assert value == expected
    assert type(value) is type(expected)


def test_base_files_are_relative_chain_and_yield_to_the_file_and_the_command_line(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path / "root.yml", "SEED: 1\nSOLVER: {MAX_EPOCHS: 10, BASE_LR: 0.1, MARGIN: 0.5}\n")
    write(tmp_path / "middle.yml", "_BASE_: root.yml\nSOLVER: {MAX_EPOCHS: 20, BASE_LR: 0.2}\n")
    leaf = write(tmp_path / "sub" / "leaf.yml", "_BASE_: ../middle.yml\nSOLVER: {MAX_EPOCHS: 30}\n")
    cfg = load_cfg(leaf, ["SEED", "5"])
    assert (cfg.SEED, cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.BASE_LR, cfg.SOLVER.MARGIN) == (5, 30, 0.2, 0.5)


def test_of_several_base_files_the_last_counts(tmp_path):
    write(tmp_path / "a.yml", "SEED: 1\nSOLVER: {MARGIN: 0.1}\n")
    write(tmp_path / "b.yml", "SEED: 2\n")
    cfg = load_cfg(write(tmp_path / "c.yml", "_BASE_: [a.yml, b.yml]\n"))
    assert (cfg.SEED, cfg.SOLVER.MARGIN) == (2, 0.1)


def test_base_files_in_a_circle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "_BASE_: b.yml\n")
    write(tmp_path / "b.yml", "_BASE_: a.yml\n")
    assert errors_of("a.yml") == ["_BASE_ runs in a circle: a.yml -> b.yml -> a.yml"]


def test_base_of_a_wrong_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "_BASE_: 3\n")
    assert errors_of("a.yml") == ["a.yml: _BASE_: found 3, expected a path, or a list of paths, relative to the file"]


def test_missing_files_name_the_path_and_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "_BASE_: gone.yml\n")
    (missing,) = errors_of("configs/none.yml")
    assert missing == f"configs/none.yml: no such file; configurations are in {REPOSITORY}/configs"
    (near,) = errors_of("configs/Market/cfta.yml")
    assert near.startswith("configs/Market/cfta.yml: no such file; did you mean configs/Market/cfat.yml or configs/")
    assert near.count(" or ") == 2
    (missing_base,) = errors_of("a.yml")
    assert missing_base == f"gone.yml: no such file (_BASE_ of a.yml); configurations are in {REPOSITORY}/configs"


def test_a_directory_is_no_file(tmp_path):
    (error,) = errors_of(str(tmp_path))
    assert "is no regular file; expected one (no directory, " in error


def test_invalid_yaml_names_line_and_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "SEED: 1\nSOLVER: {BASE_LR: [0.1}\n")
    (error,) = errors_of("a.yml")
    assert error.startswith("a.yml: not valid YAML: line 2, column 23: ")


def test_a_file_must_hold_sections(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "- SEED\n")
    (error,) = errors_of("a.yml")
    assert error.startswith("a.yml: found ['SEED'], expected sections of keys")


def test_empty_files_and_sections_say_nothing(tmp_path):
    write(tmp_path / "a.yml", "")
    assert flat(load_cfg(write(tmp_path / "b.yml", "_BASE_: a.yml\nSOLVER:\nCFAT:\n  CLEAN:\n"))) == flat(
        get_defaults()
    )


def test_all_errors_of_all_sources_are_reported_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "base.yml", "SOLVER: {BASE_LRR: 0.1}\n")
    write(tmp_path / "a.yml", "_BASE_: base.yml\nSEED: one\nMODEL: {JPM: 1}\n")
    assert errors_of("a.yml", ["SOLVER.MOMENTUM", "2", "SEED"]) == [
        "command line: SEED has no value, expected KEY VALUE KEY VALUE ...",
        "base.yml: SOLVER.BASE_LRR is not a known key; did you mean SOLVER.BASE_LR?",
        "a.yml: SEED: found 'one', expected an integer",
        "a.yml: MODEL.JPM: found 1, expected True or False",
        "command line: SOLVER.MOMENTUM: found '2', expected a number from 0 to below 1",
    ]


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("BASE_LR", "SOLVER.BASE_LR"),
        ("solver.base_lr", "SOLVER.BASE_LR"),
        ("MODEL.BASE_LR", "SOLVER.BASE_LR"),
        ("SOLVR.MAX_EPOCH", "SOLVER.MAX_EPOCHS"),
        ("CFAT.IDENTITY_WEIGHT", "CFAT.FINE.IDENTITY_WEIGHT"),
        ("CORRUPTIONS.SEVERITY", "CORRUPTION.SEVERITIES"),
        ("MODEL.DEVICEID", "MODEL.DEVICE_ID"),
        ("TEST.NECK_FEATURE", "TEST.NECK_FEAT"),
    ],
)
def test_unknown_keys_suggest_the_nearest(key, nearest):
    assert errors_of(None, [key, "1"]) == [f"command line: {key} is not a known key; did you mean {nearest}?"]


def test_a_key_like_no_other_gets_no_suggestion():
    (error,) = errors_of(None, ["zzz.qqq", "1"])
    assert error.startswith("command line: zzz.qqq is not a known key; config/defaults.py explains every key of SEED, ")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("SEED", "True", "found 'True', expected an integer"),
        ("SEED", "1.5", "found '1.5', expected an integer"),
        ("SEED", "-1", "found '-1', expected a number of at least 0"),
        ("SOLVER.BASE_LR", "fast", "found 'fast', expected a number"),
        ("SOLVER.BASE_LR", "2024-13-45", "found '2024-13-45', expected a number"),
        ("SOLVER.BASE_LR", ".nan", "found '.nan', expected a number above 0"),
        ("SOLVER.MARGIN", ".inf", "found '.inf', expected a number of at least 0"),
        ("MODEL.JPM", "maybe", "found 'maybe', expected True or False"),
        ("MODEL.STRIDE_SIZE", "[12]", "found '[12]', expected a list of 2 integers"),
        ("MODEL.STRIDE_SIZE", "12", "found '12', expected a list of 2 integers"),
        ("MODEL.STRIDE_SIZE", "[12, 0]", "found '[12, 0]', expected two strides of at least 1 pixel"),
        ("INPUT.PIXEL_STD", "[1, 1]", "found '[1, 1]', expected a list of 3 numbers"),
        ("INPUT.PIXEL_STD", "[1, 1, 0]", "found '[1, 1, 0]', expected three numbers above 0"),
        ("INPUT.SIZE_TEST", "[256, 8]", "found '[256, 8]', expected a height and a width of at least 16 pixels"),
        ("INPUT.RE_PROB", "1.5", "found '1.5', expected a number from 0 to 1"),
        ("MODEL.DEVICE", "tpu", "found 'tpu', expected auto, cpu, cuda or cuda:N"),
        ("MODEL.DEVICE", "cuda:x", "found 'cuda:x', expected auto, cpu, cuda or cuda:N; did you mean cuda?"),
        ("SOLVER.SCHEDULER", "Cosin", "found 'Cosin', expected one of cosine, multistep; did you mean cosine?"),
        ("SOLVER.OPTIMIZER_NAME", "''", "expected a text that is not empty"),
        ("SOLVER.AMP", "fp8", "found 'fp8', expected one of auto, bf16, fp16, off"),
        ("SOLVER.LAYER_DECAY", "0", "found '0', expected a number above 0 and at most 1"),
        ("DATASETS.CUHK03.CLASSIC_SPLIT", "21", "expected 0 (the new protocol) or a classic split from 1 to 20"),
        ("DATASETS.FOLDER.PATTERN", "(?P<person>.*)", r"named group pid, e.g. (?P<pid>[^/]+)/(?P<camid>\d+)_.*"),
        ("DATASETS.FOLDER.PATTERN", "(?P<pid>", r"named group pid, e.g. (?P<pid>[^/]+)/(?P<camid>\d+)_.*"),
        ("SOLVER.IMS_PER_BATCH", "0", "found '0', expected a number of at least 1"),
        (
            "TEST.PROTOCOLS",
            "[]",
            "one or more of clean, corrupted, corrupted_query, corrupted_gallery, unseen, each once",
        ),
        ("TEST.PROTOCOLS", "[clean, corupted]", "each once; did you mean corrupted?"),
        ("TEST.PROTOCOLS", "[clean, clean]", "each once"),
        ("TEST.MATRIX", "clean", 'expected one of "", corrupted, corrupted_query, corrupted_gallery'),
        ("TEST.MATRIX", "corrupted_querry", "corrupted_gallery; did you mean corrupted_query?"),
        ("TEST.MATRIX_REPEATS", "0", "found '0', expected a number of at least 1"),
        ("CORRUPTION.SEVERITIES", "[0, 1]", "found '[0, 1]', expected one or more severities from 1 to 5, each once"),
        ("CORRUPTION.SEVERITIES", "[6]", "severities from 1 to 5, each once"),
        ("CORRUPTION.TRAIN", "[]", "expected all, or one or more corruptions and families, each once"),
        ("CORRUPTION.BACKEND", "Fast", "found 'Fast', expected one of fast, imagecorruptions; did you mean fast?"),
        ("CFAT.STAGES", "[align, clean]", "expected one or more of clean, corrupted, bridge, align, in this order"),
        ("CFAT.STAGES", "[]", "in this order"),
        ("CFAT.STAGES", "[clean, bridg]", "in this order; did you mean bridge?"),
        ("CFAT.STAGE", "alin", 'expected one of "", clean, corrupted, bridge, align; did you mean align?'),
        ("CFAT.FINE.BRIDGE_T", "batches", "expected one of batch, image; did you mean batch?"),
        ("INPUT.ERASING_TYPE", "sel", "did you mean self?"),
    ],
)
def test_wrong_values_say_what_was_expected(key, value, error):
    (found,) = errors_of(None, [key, value])
    assert found.startswith(f"command line: {key}: found ")
    assert found.endswith(error)


def test_wrong_types_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "SEED: {a: 1}\nCFAT: 3\nTEST: {WEIGHT: }\nMODEL: {CHECKPOINT_ENTRY: [a, b]}\n")
    assert errors_of("a.yml") == [
        "a.yml: SEED.a: SEED is a key with a value, not a section; expected an integer",
        "a.yml: CFAT is a section, expected its keys, e.g. CFAT.STAGES",
        "a.yml: TEST.WEIGHT: found None, expected a string",
        "a.yml: MODEL.CHECKPOINT_ENTRY: found ['a', 'b'], expected a string",
    ]


@pytest.mark.parametrize("key", ["SOLVER.BASE_LR", "TEST.RE_RANKING_K1", "SEED", "DATASETS.CUHK03.BOXES"])
def test_key_value_pairs_with_an_equals_sign(key):
    assert errors_of(None, [f"{key}=0.1", "SEED", "3"]) == [
        f"command line: found '{key}=0.1', expected KEY VALUE with a space: {key} 0.1"
    ]


def test_a_file_in_place_of_a_key():
    assert errors_of(None, ["configs/a.yml", "SEED", "3"]) == [
        "command line: found configs/a.yml, expected KEY VALUE; a file is given as --config_file configs/a.yml"
    ]


def test_a_batch_holds_whole_identities():
    (error,) = errors_of(None, ["SOLVER.IMS_PER_BATCH", "60"])
    assert error == (
        "SOLVER.IMS_PER_BATCH: found 60, expected a multiple of DATALOADER.NUM_INSTANCE (8): sampler softmax_triplet "
        "fills a batch with whole identities; 56 is near"
    )
    assert load_cfg(None, ["SOLVER.IMS_PER_BATCH", "60", "DATALOADER.SAMPLER", "softmax"]).SOLVER.IMS_PER_BATCH == 60


def test_config_error_is_a_user_error():
    assert issubclass(ConfigError, UserError)
    assert issubclass(ConfigError, ValueError)


def test_skipping_damaged_images_needs_their_check():
    with pytest.raises(ConfigError, match=r"ON_BAD_IMAGE: found skip, but DATASETS\.CHECK_IMAGES False looks for no"):
        load_cfg(opts=["DATASETS.ON_BAD_IMAGE", "skip", "DATASETS.CHECK_IMAGES", "False"])


def test_a_key_given_twice_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", "SOLVER: {MARGIN: 0.1}\nSOLVER: {MAX_EPOCHS: 3}\n")
    assert errors_of("a.yml") == ["a.yml: line 2: SOLVER is given twice; leave one of them out"]
    write(tmp_path / "b.yml", "SOLVER: {MARGIN: 0.1}\nSOLVER.MARGIN: 0.2\n")
    assert errors_of("b.yml") == ["b.yml: SOLVER.MARGIN is given twice; leave one of them out"]


def test_paths_are_expanded_wherever_they_stand(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "/data")
    write(tmp_path / "base.yml", "DATASETS: {ROOT_DIR: $DATA/re-id, CSV: {FILE: ~/a.csv}}\n")
    write(tmp_path / "a.yml", "_BASE_: $HOME/base.yml\nOUTPUT_DIR: ~/logs\nTEST: {COMPARE: [~/b, '${DATA}/c']}\n")
    cfg = load_cfg("~/a.yml", ["CFAT.CLEAN.WEIGHT", "$DATA/clean.pth", "TEST.EXPORT", "~/a.onnx"])
    assert (f"{tmp_path}/logs", "/data/re-id") == (cfg.OUTPUT_DIR, cfg.DATASETS.ROOT_DIR)
    assert (f"{tmp_path}/a.csv", f"{tmp_path}/a.onnx") == (cfg.DATASETS.CSV.FILE, cfg.TEST.EXPORT)
    assert ([f"{tmp_path}/b", "/data/c"], "/data/clean.pth") == (cfg.TEST.COMPARE, cfg.CFAT.CLEAN.WEIGHT)
    assert "~" not in cfg.dump()
    assert errors_of(None, ["OUTPUT_DIR", "$NOT_SET_HERE/a"]) == [
        "command line: OUTPUT_DIR: found '$NOT_SET_HERE/a', and the environment variable NOT_SET_HERE is not set; set "
        "it, or write the path out"
    ]


def test_path_keys():
    assert {name for name, key in SCHEMA.items() if key.is_path} == {
        *("OUTPUT_DIR", "MODEL.PRETRAIN_PATH", "DATASETS.ROOT_DIR", "DATASETS.CSV.FILE"),
        *("DATASETS.NAMES", "DATASETS.TEST"),
        *(f"DATASETS.FOLDER.{split}" for split in ("TRAIN", "QUERY", "GALLERY")),
        *(f"TEST.{name}" for name in ("WEIGHT", "EXPORT", "COMPARE", "BASELINE")),
        *(f"CFAT.{stage}.WEIGHT" for stage in ("CLEAN", "CORRUPTED", "BRIDGE", "ALIGN")),
    }


def test_many_errors_are_counted():
    with pytest.raises(ConfigError) as caught:
        load_cfg(None, [part for index in range(100) for part in (f"SOLVER.BASE_LR={index}", "SEED")][::2])
    headline, *lines, last = str(caught.value).split("\n  ")
    assert (headline, len(lines), last) == ("100 errors in the configuration:", 50, "... and 50 more")


class TestTheConfigurationInACheckpoint:
    def test_model_and_test_are_read_and_paths_are_not(self):
        opts = ["MODEL.POOLING", "gem", "TEST.FLIP", "True", "SOLVER.BASE_LR", "0.5", "TEST.WEIGHT", "there.pth"]
        cfg = load_stored_cfg(load_cfg(opts=opts).dump(), "checkpoint a.pth", ["TEST.METRIC", "cosine"])
        found = (cfg.MODEL.POOLING, cfg.TEST.FLIP, cfg.SOLVER.BASE_LR, cfg.TEST.WEIGHT, cfg.TEST.METRIC)
        assert found == ("gem", True, 0.05, "", "cosine")
        assert cfg.is_frozen()

    def test_errors_name_the_checkpoint(self):
        for text, message in (
            ("MODEL: {POOLING: mean}", "checkpoint a.pth: MODEL.POOLING: found 'mean', expected one of class_token"),
            ("MODEL: {POOLINGS: gem}", "MODEL.POOLINGS is not a known key"),
            ("5", "checkpoint a.pth: the configuration in it is '5', expected sections of keys"),
        ):
            with pytest.raises(ConfigError, match=message):
                load_stored_cfg(text, "checkpoint a.pth")
