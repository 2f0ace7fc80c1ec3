import functools
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from corruption import CORRUPTIONS, FAMILIES, CorruptionPolicy, apply_condition, protocols
from corruption.__main__ import main
from corruption.apply import resolve_backend
from datasets import copy_format as copies
from tests.helpers import REPOSITORY
from utils.errors import UserError
from utils.images import read_image
from utils.structures import Condition

# 22 ms an image of 64 x 32: long enough to be interrupted
SLOW = ("--type", "glass_blur", "--backend", "imagecorruptions", "--workers", "2")


def write_images(folder, names, size=(48, 24)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng(len(list(folder.iterdir())))
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)


def write_source(directory, num_gallery=12, **options):
    write_images(directory / "query", ["0001_c1s1_000001_00.jpg", "0002_c1s1_000002_00.JPG"], **options)
    write_images(directory / "bounding_box_test", ["-1_c1s1_000001_01.jpg", "0000_c1s1_000001_01.png"], **options)
    names = [f"{1 + number % 2:04d}_c2s1_{number:06d}_01.jpg" for number in range(num_gallery)]
    write_images(directory / "bounding_box_test", names, **options)
    write_images(directory / "bounding_box_train", ["0007_c1s1_000001_01.jpg", "0008_c1s1_000001_01.png"], **options)
    (directory / "query" / "Thumbs.db").touch()
    return directory


def export(source, out, *options):
    return main(["export", "--data", str(source), "--out", str(out), *options])


def fork(source, out, *options):
    """An export in a process of its own, without the seconds that a fresh interpreter needs."""
    process = multiprocessing.get_context("fork").Process(target=export, args=(source, out, *options))
    process.start()
    wait_for_images(process.is_alive, out)
    return process


def start(source, out, *options, **settings):
    """The command line as a user runs it."""
    command = [sys.executable, "-m", "corruption", "export", "--data", source, "--out", out, *options]
    return subprocess.Popen(
        list(map(str, command)), cwd=REPOSITORY, start_new_session=True, text=True, stderr=subprocess.PIPE, **settings
    )


def content(directory):
    """Every file below a directory with its bytes, hidden ones too; the lock is none of its content."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def wait_for_images(is_running, out, number=5):
    deadline = time.monotonic() + 60
    while len(list(out.glob("*/*.png"))) < number:
        assert is_running(), "the export ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("data") / "market1501")


@pytest.fixture(scope="module")
def exported(source):
    """A whole copy, made with --seed 5 by two processes; only to be read."""
    assert export(source, source.with_name("market1501-C"), "--seed", "5", "--workers", "2") == 0
    return source.with_name("market1501-C")


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "market1501-C")


def test_what_a_copy_holds(source, exported):
    files = content(exported)
    manifest, settings = (json.loads(files.pop(name)) for name in ("manifest.json", "export.json"))
    assert files.keys() == {
        *(f"query/000{pid}_c1s1_00000{pid}_00.png" for pid in (1, 2)),
        *("bounding_box_test/-1_c1s1_000001_01.png", "bounding_box_test/0000_c1s1_000001_01.png"),
        *(f"bounding_box_test/{1 + number % 2:04d}_c2s1_{number:06d}_01.png" for number in range(12)),
        *("bounding_box_train/0007_c1s1_000001_01.jpg", "bounding_box_train/0008_c1s1_000001_01.png"),
    }
    assert list(manifest["files"]) == sorted(files)
    assert manifest.pop("files") == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert manifest == settings
    assert settings["pictures"] == {"query": 2, "gallery": 14, "train": 2}
    assert (settings["source"], settings["seed"], settings["repeat"]) == ("market1501", 5, 0)
    assert settings["corruptions"] == list(CORRUPTIONS)
    assert str(source.parent) not in json.dumps(settings)
    for name, data in files.items():
        if name.startswith("bounding_box_train"):
            assert data == (source / name).read_bytes()


def test_images_are_those_of_testing_on_the_fly(source, tmp_path):
    out = tmp_path / "market1501-weather"
    export(source, out, "--type", "weather", "--type", "contrast", "--severity", "4", "--seed", "3", "--repeat", "2")
    policy = CorruptionPolicy((*FAMILIES["weather"][:4], "contrast", *FAMILIES["weather"][4:]), (4,))
    for folder, split in (("query", "query"), ("bounding_box_test", "gallery")):
        for path in (source / folder).glob("*.[jJp]*g"):
            rng = protocols.test_generator(3, split, f"{folder}/{path.name}", 2)
            expected = apply_condition(read_image(path), Condition("random"), policy, rng)
            assert (read_image(out / folder / f"{path.stem}.png") == expected).all()


@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_same_bytes_with_any_number_of_workers(source, exported, tmp_path, workers):
    export(source, tmp_path / "copy", "--seed", "5", "--workers", workers)
    assert content(tmp_path / "copy") == content(exported)
    export(source, tmp_path / "other", "--seed", "6", "--workers", workers)
    assert content(tmp_path / "other") != content(exported)


def test_says_what_it_wrote_and_how_to_test(source, copy, tmp_path, capsys):
    export(source, copy, "--seed", "5")
    whole, hint = capsys.readouterr().out.splitlines()
    assert whole == (
        f"{copy}: complete; 2 query and 14 gallery images corrupted, 2 training images copied; "
        "0 files written by this run"
    )
    assert f"DATASETS.ROOT_DIR {tmp_path} DATASETS.NAMES market1501-C TEST.PROTOCOLS \"['clean']\"" in hint
    export(source, tmp_path / "fog", "--type", "fog")
    assert len(capsys.readouterr().out.splitlines()) == 1  # no data set of that name can be read


def test_machine_made_files_are_neither_copied_nor_in_the_way(source, exported, tmp_path):
    littered = shutil.copytree(source, tmp_path / "market1501")
    for folder in ("query", "bounding_box_test", "bounding_box_train"):
        (littered / folder / "._0001_c1s1_000001_00.jpg").write_bytes(b"Mac OS X")
        (littered / folder / "0001.sync-conflict-20240131-101500-ABCDEFG.jpg").write_bytes(b"")
        (littered / folder / "@eaDir" / "a.jpg").mkdir(parents=True)
    out = tmp_path / "market1501-C"
    out.mkdir()
    (out / ".DS_Store").touch()
    assert export(littered, out, "--seed", "5") == 0
    (out / ".DS_Store").unlink()
    assert content(out) == content(exported)
    for name in ("._0001_c1s1_000001_00.png", "Thumbs.db"):
        (out / "query" / name).touch()
    copies.check_files(out)
    assert export(littered, out, "--seed", "5") == 0  # checks it, and writes nothing anew


def test_a_copy_that_an_earlier_version_littered_is_read(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    name = "bounding_box_train/._0007_c1s1_000001_01.jpg"
    (copy / name).write_bytes(b"Mac OS X")
    manifest["files"][name] = hashlib.sha256(b"Mac OS X").hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    copies.check_files(copy)
    assert copies.find_damaged(copy) == []
    (copy / name).unlink()
    copies.check_files(copy)


def test_without_training_images(source, tmp_path):
    shutil.copytree(source, tmp_path / "test")
    shutil.rmtree(tmp_path / "test" / "bounding_box_train")
    assert export(tmp_path / "test", tmp_path / "test-C") == 0
    assert not (tmp_path / "test-C" / "bounding_box_train").exists()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A source that takes a while; beside it its copy, made in one go."""
    source = write_source(tmp_path_factory.mktemp("big") / "market1501", num_gallery=60, size=(128, 64))
    export(source, source.with_name("whole"), *SLOW)
    return source


class TestInterrupted:
    def test_a_killed_export_is_gone_on_with(self, big, tmp_path):
        out = tmp_path / "copy"
        process = fork(big, out, *SLOW)
        process.kill()
        process.join()
        time.sleep(0.3)  # its workers follow it
        made = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
        assert 5 <= len(made) < 60
        (out / "query" / ".0001_c1s1_000001_00.png.1.partial").write_bytes(b"half")
        assert not (out / "manifest.json").exists()
        export(big, out, *SLOW)
        assert content(out) == content(big.with_name("whole"))
        assert made == {path: path.stat().st_mtime_ns for path in made}

    def test_ctrl_c(self, big, tmp_path):
        # tests that run in the background may have been set to ignore Ctrl-C, and would hand that on
        restore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = start(big, tmp_path / "copy", *SLOW, preexec_fn=restore)
        wait_for_images(lambda: process.poll() is None, tmp_path / "copy")
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
        assert process.communicate(timeout=30)[1] == "interrupted\n"
        assert process.returncode == 130
        assert not any(name.endswith(("manifest.json", ".partial")) for name in content(tmp_path / "copy"))

    def test_two_at_a_time(self, big, tmp_path, caplog):
        process = fork(big, tmp_path / "copy", *SLOW)
        export(big, tmp_path / "copy", *SLOW)
        assert "waiting for another process" in caplog.text
        process.join(30)
        assert process.exitcode == 0
        assert content(tmp_path / "copy") == content(big.with_name("whole"))

    def test_what_the_power_cut_emptied_is_corrupted_again(self, source, exported, copy):
        (copy / "manifest.json").unlink()
        whole = (copy / "query" / "0001_c1s1_000001_00.png").read_bytes()
        (copy / "query" / "0001_c1s1_000001_00.png").write_bytes(b"")
        (copy / "query" / "0002_c1s1_000002_00.png").write_bytes(whole[:-500] + bytes(500))
        (copy / "bounding_box_train" / "0007_c1s1_000001_01.jpg").write_bytes(b"half")
        export(source, copy, "--seed", "5")
        assert content(copy) == content(exported)

    def test_other_versions_or_another_source_do_not_go_on(self, source, copy, tmp_path):
        (copy / "manifest.json").unlink()
        settings = json.loads((copy / "export.json").read_text())
        settings["versions"]["numpy"] = "1.26.4"
        (copy / "export.json").write_text(json.dumps(settings))
        with pytest.raises(UserError, match=r"holds another export: versions is .*'numpy': '1.26.4'"):
            export(source, copy, "--seed", "5")
        shutil.copytree(source, tmp_path / "market1501")
        (tmp_path / "market1501" / "query" / "0001_c1s1_000001_00.jpg").write_bytes(b"another")
        with pytest.raises(UserError, match=r"its source images were others"):
            export(tmp_path / "market1501", copy, "--seed", "5")


class TestFullDisk:
    def test_a_file_system_without_space(self, source, exported, tmp_path):
        out = tmp_path / "copy"
        out.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(out)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no file system can be mounted")
        try:
            with pytest.raises(UserError, match=r"copy/.*\.png: cannot be written \(No space left") as error:
                export(source, out, "--seed", "5")
            assert "free some space" in str(error.value)
            assert "run the same command again" in str(error.value)
            assert not any(name.endswith(("manifest.json", ".partial")) for name in content(out))
            subprocess.run(["mount", "-o", "remount,size=10m", str(out)], check=True)
            export(source, out, "--seed", "5")
            assert content(out) == content(exported)
        finally:
            subprocess.run(["umount", str(out)], check=True)

    def test_a_limit_on_the_size_of_files(self, source, exported, tmp_path):
        process = start(
            source,
            tmp_path / "copy",
            "--seed",
            "5",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500)),
        )
        message = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert message.startswith(f"error: {tmp_path / 'copy'}/")
        assert "cannot be written (File too large)" in message
        assert len(message.splitlines()) == 1
        assert not any(name.endswith(("manifest.json", ".partial")) for name in content(tmp_path / "copy"))
        export(source, tmp_path / "copy", "--seed", "5")
        assert content(tmp_path / "copy") == content(exported)


class TestRepair:
    def test_missing_and_damaged_files_are_made_anew(self, source, exported, copy):
        damaged = copy / "query" / "0001_c1s1_000001_00.png"
        shutil.copy(copy / "query" / "0002_c1s1_000002_00.png", damaged)  # a whole image, but another one
        (copy / "bounding_box_test" / "0000_c1s1_000001_01.png").unlink()
        (copy / "bounding_box_train" / "0007_c1s1_000001_01.jpg").write_bytes(b"half")
        assert len(copies.find_damaged(copy)) == 3
        export(source, copy, "--seed", "5")
        assert content(copy) == content(exported)

    @pytest.mark.parametrize("name", ["manifest.json", "export.json"])
    def test_a_lost_or_damaged_list_is_written_anew(self, source, exported, copy, name):
        if name == "manifest.json":
            (copy / name).write_text("{")
        else:
            (copy / name).unlink()
        export(source, copy, "--seed", "5")
        assert content(copy) == content(exported)

    def test_other_versions_check_a_copy_but_do_not_mix_into_it(self, source, copy):
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["versions"]["numpy"] = "1.26.4"
        manifest["files"]["query/0001_c1s1_000001_00.png"] = hashlib.sha256(b"").hexdigest()
        (copy / "manifest.json").write_text(json.dumps(manifest))
        (copy / "query" / "0001_c1s1_000001_00.png").write_bytes(b"")
        assert export(source, copy, "--seed", "5") == 0
        (copy / "query" / "0001_c1s1_000001_00.png").unlink()
        with pytest.raises(UserError, match=r"0001_c1s1_000001_00.png: missing or damaged, .* numpy is 1.26.4 there"):
            export(source, copy, "--seed", "5")
        assert not (copy / "query" / "0001_c1s1_000001_00.png").exists()


class TestRefusals:
    """What stands in the place of the copy is never touched."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--seed", "6"], "seed is 5 there, 6 here"),
            (["--seed", "5", "--repeat", "1"], "repeat is 0 there, 1 here"),
            (["--seed", "5", "--severity", "2"], r"severities is \[1, 2, 3, 4, 5\] there, \[2\] here"),
            (["--seed", "5", "--type", "fog"], r"corruptions is .* there, \['fog'\] here"),
            pytest.param(
                ["--seed", "5", "--backend", "imagecorruptions"],
                "backend is fast there, imagecorruptions here",
                marks=pytest.mark.skipif(resolve_backend("fast") != "fast", reason="the extension is not built"),
            ),
        ],
    )
    @pytest.mark.parametrize("complete", [True, False])
    def test_another_export(self, source, copy, options, message, complete):
        if not complete:
            (copy / "manifest.json").unlink()
        before = content(copy)
        with pytest.raises(UserError, match=f"{copy} holds another export: {message}.* Nothing was changed"):
            export(source, copy, *options)
        assert content(copy) == before

    def test_something_else(self, source, tmp_path):
        (tmp_path / "thesis.tex").write_text("precious")
        with pytest.raises(UserError, match=r"does not hold an export: it holds thesis\.tex, .* Nothing was changed"):
            export(source, tmp_path)
        assert content(tmp_path) == {"thesis.tex": b"precious"}
        with pytest.raises(UserError, match=r"thesis\.tex is a file; expected a directory"):
            export(source, tmp_path / "thesis.tex")

    @pytest.mark.parametrize("complete", [True, False])
    def test_images_of_something_else(self, source, copy, complete):
        if not complete:
            (copy / "manifest.json").unlink()
        (copy / "query" / "0009_c1s1_000001_00.jpg").touch()
        before = content(copy)
        with pytest.raises(UserError, match=r"holds query/0009_c1s1_000001_00\.jpg, .* no image of this export"):
            export(source, copy, "--seed", "5")
        assert content(copy) == before

    def test_one_in_the_other(self, source, tmp_path):
        (tmp_path / "link").symlink_to(source)
        before = content(source)
        for out in (source, source / "copy", source.parent, tmp_path / "link" / "copy"):
            with pytest.raises(UserError, match=r"one lies in the other; .* e\.g\. --out .*market1501-C"):
                export(source, out)
        assert content(source) == before

    def test_no_data_set(self, source, tmp_path):
        layout = r"expected a data set in Market-1501's layout: query/, bounding_box_test/"
        with pytest.raises(UserError, match=f"none/query does not exist; {layout}"):
            export(tmp_path / "none", tmp_path / "copy")
        (tmp_path / "half" / "query").mkdir(parents=True)
        with pytest.raises(UserError, match=f"half/query holds no images; {layout}"):
            export(tmp_path / "half", tmp_path / "copy")
        write_images(tmp_path / "half" / "query", ["0001_c1s1_000001_00.jpg"])
        with pytest.raises(UserError, match=f"half/bounding_box_test does not exist; {layout}"):
            export(tmp_path / "half", tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_two_images_for_one_place(self, tmp_path):
        source = write_source(tmp_path / "market1501")
        write_images(source / "query", ["0001_c1s1_000001_00.png"])
        with pytest.raises(UserError, match=r"000001_00\.jpg and .*000001_00\.png would both become .*000001_00\.png"):
            export(source, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_a_place_that_cannot_be_written(self, source, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"file/copy: cannot be written \(Not a directory\)"):
            export(source, tmp_path / "file" / "copy")

    def test_an_image_that_cannot_be_read(self, tmp_path):
        source = write_source(tmp_path / "market1501")
        (source / "bounding_box_test" / "0001_c2s1_000004_01.jpg").write_bytes(b"no image")
        with pytest.raises(UserError, match=r" .*0001_c2s1_000004_01\.jpg: cannot be read"):
            export(source, tmp_path / "copy")
        assert not (tmp_path / "copy" / "manifest.json").exists()
        (source / "bounding_box_test" / "0001_c2s1_000004_01.jpg").unlink()
        (source / "bounding_box_test" / "0001_c2s1_000004_01.jpg").symlink_to("nowhere")
        with pytest.raises(UserError, match=r"0001_c2s1_000004_01\.jpg: no file, or a link to none"):
            export(source, tmp_path / "copy2")

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            (["--severity", "6"], "argument --severity: invalid choice: '6'"),
            (["--seed", "-1"], "argument --seed: '-1' is no integer of at least 0"),
            (["--workers", "0"], "argument --workers: '0' is no integer of at least 1"),
            (["--backend", "slow"], "argument --backend: invalid choice: 'slow'"),
        ],
    )
    def test_bad_options(self, source, tmp_path, capsys, option, message):
        with pytest.raises(SystemExit):
            export(source, tmp_path / "copy", *option)
        assert message in capsys.readouterr().err

    def test_unknown_type(self, source, tmp_path):
        with pytest.raises(UserError, match=r"unknown corruption or family 'fgo'; .*did you mean fog"):
            export(source, tmp_path / "copy", "--type", "fgo")
        assert not (tmp_path / "copy").exists()
