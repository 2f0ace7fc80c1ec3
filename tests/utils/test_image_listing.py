"""What is listed as an image, what is skipped, and the bounds."""

import logging
import os

import pytest

from utils import image_listing
from utils.errors import UserError
from utils.image_listing import is_machine_made, list_images

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def images(directory, **options):
    errors = []
    return list(list_images(directory, errors.append, **options)), errors


def write(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


def test_images_are_sorted_by_name(tmp_path):
    write(tmp_path, "b.jpg", "a/2.png", "a/10.JPEG", "c/d/e.webp", "B.bmp", "a.tif", "ä.tiff")
    expected = ["B.bmp", "a/10.JPEG", "a/2.png", "a.tif", "b.jpg", "c/d/e.webp", "ä.tiff"]
    assert images(tmp_path) == (expected, [])
    assert images(str(tmp_path)) == (expected, [])


def test_passes_over_other_and_hidden_files(tmp_path, caplog):
    write(tmp_path, "a.jpg", "._a.jpg", ".git/b.jpg", "Thumbs.db", "notes.txt", "jpg", "c.jpg.part", "c.heic")
    caplog.set_level(logging.INFO)
    assert images(tmp_path) == (["a.jpg"], [])
    assert f"{tmp_path}: skipped as hidden or machine-made: 1 ._*, 1 .git, 1 Thumbs.db, 1 c.jpg.part\n" in caplog.text
    assert f"{tmp_path}: skipped 1 .heic, 1 .txt, 1 no suffix; images end in .avif, .bmp" in caplog.text
    assert images(tmp_path, suffixes={".heic", ".txt"}) == (["c.heic", "notes.txt"], [])


def test_not_below(tmp_path, caplog):
    write(tmp_path, "a.jpg", "b/c.jpg", "d.jpg/e.jpg")
    caplog.set_level(logging.INFO)
    assert images(tmp_path, recursive=False) == (["a.jpg"], [])
    assert "skipped 2 directories; images end in" in caplog.text
    assert images(tmp_path) == (["a.jpg", "b/c.jpg", "d.jpg/e.jpg"], [])


def test_follows_links(tmp_path):
    write(tmp_path, "disk/a.jpg", "disk/more/b.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c.jpg").symlink_to(tmp_path / "disk" / "a.jpg")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "data" / "twice").symlink_to(tmp_path / "disk" / "more")
    assert images(tmp_path / "data") == (["c.jpg", "linked/a.jpg", "linked/more/b.jpg", "twice/b.jpg"], [])
    (tmp_path / "link").symlink_to("data")
    assert images(tmp_path / "link")[0][0] == "c.jpg"


def test_image_names_that_are_no_files_are_errors(tmp_path):
    write(tmp_path, "b.jpg")
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "c.jpg")  # who reads it waits for ever
    expected = [f"{tmp_path / name}: no file, or a link to none. Remove it" for name in ("a.jpg", "c.jpg")]
    assert images(tmp_path) == (["b.jpg"], expected)


def test_links_in_loops_are_errors(tmp_path):
    write(tmp_path, "a/b.jpg", "c.jpg")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "here").symlink_to(".")
    found, errors = images(tmp_path)
    assert found == ["a/b.jpg", "c.jpg"]
    loop = "{}: a symbolic link that leads back to {}, a loop. Remove the link"
    assert errors == [
        loop.format(tmp_path / "a" / "here", tmp_path / "a"),
        loop.format(tmp_path / "a" / "up", tmp_path),
    ]
    assert images(tmp_path / "a", recursive=False) == (["b.jpg"], [])


@pytest.mark.parametrize("name", ["self", "self.jpg"])
def test_a_link_to_itself_is_an_error(tmp_path, name):
    write(tmp_path, "a.jpg")
    (tmp_path / name).symlink_to(name)
    found, (error,) = images(tmp_path)
    assert found == ["a.jpg"]
    assert error.startswith(f"{tmp_path / name}: cannot be read (Too many levels of symbolic links)")


def test_a_directory_that_is_not_there_is_an_error(tmp_path):
    found, (error,) = images(tmp_path / "a")
    assert found == []
    assert error.startswith(f"{tmp_path / 'a'}: cannot be read (No such file or directory).")


@as_user
def test_a_directory_that_must_not_be_read_is_an_error(tmp_path):
    write(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        found, errors = images(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert found == ["a.jpg"]
    assert errors == [f"{tmp_path / 'closed'}: cannot be read (Permission denied). Mend its permissions, or remove it"]


MACHINE_MADE = [
    *("@eaDir", "@eadir", "#recycle", "#Recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@tmp", "~snapshot"),
    *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information", "FOUND.000", "Thumbs.db", "desktop.ini"),
    *("__MACOSX", ".AppleDouble", ".DS_Store", "Network Trash Folder", "._a.jpg", ".Trashes", ".fseventsd"),
    *(".Trash-1000", ".thumbnails", "lost+found", ".git", ".ipynb_checkpoints", "__pycache__", ".@__thumb", ".zfs"),
    *("@GMT-2024.01.01-00.00.00", ".snapshot", "a.jpg~", "a.jpg.partial", "anna.partial", "a.jpg.part", "a.jpg.tmp"),
    *(".stversions", ".stfolder", ".~tmp~", ".a.jpg.Xy12Ab", ".rsync-partial", ".dropbox.cache", "~$a.jpg"),
    *("a.sync-conflict-20240131-101500-ABCDEFG.jpg", "a (Anna's conflicted copy 2024-01-31).jpg"),
    *("a (conflicted copy 2024-01-31 101500).jpg", "a (Case Conflict 1).jpg", "SYNOPHOTO_THUMB_XL.jpg"),
    *("SYNOFILE_THUMB_M.png", "~syncthing~a.jpg.tmp", "a.jpg.crdownload", "anna~"),
]
MEANT = [
    *("#12", "_5", "@anna", "$1", "~x", "-1", "+1", "12", "0000", "1.0", "anna.2024", "recycle", "trash", "thumbs"),
    *("thumbnails", "temp", "tmp", "partial", "backup", "eaDir", "snapshot", "a (1).jpg", "a - Copy.jpg", "a~1.jpg"),
    *("conflicted copy", "found", "FOUND.0000", "lost", "macosx", "git", "anna.part.2", "@2024", "#", "GMT-2024"),
]


@pytest.mark.parametrize("name", MACHINE_MADE)
def test_machine_made(name, tmp_path, caplog):
    write(tmp_path, "12/a.jpg", f"12/{name}/b.jpg", f"{name}/c.jpg" if "." not in name[1:] else "x.jpg")
    caplog.set_level(logging.INFO)
    assert set(images(tmp_path)[0]) <= {"12/a.jpg", "x.jpg"}
    assert is_machine_made(name)
    assert ("._*" if name.startswith("._") else name) in caplog.text


@pytest.mark.parametrize("name", MEANT)
def test_meant(name, tmp_path):
    write(tmp_path, f"{name}/a.jpg")
    assert images(tmp_path) == ([f"{name}/a.jpg"], [])


def test_the_directory_that_is_named_itself_is_read(tmp_path):
    write(tmp_path, ".hidden/@eaDir/a.jpg", ".hidden/@eaDir/@eaDir/b.jpg")
    assert images(tmp_path / ".hidden" / "@eaDir") == (["a.jpg"], [])


def test_what_is_passed_over_is_counted_by_name(tmp_path, caplog):
    write(tmp_path, *(f"{pid}/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg" for pid in range(3)), "#recycle/4/a.jpg")
    write(tmp_path, *(f"{pid}/{prefix}a.jpg" for pid in range(3) for prefix in ("", "._")))
    caplog.set_level(logging.INFO)
    assert images(tmp_path) == (["0/a.jpg", "1/a.jpg", "2/a.jpg"], [])
    assert "skipped as hidden or machine-made: 1 #recycle, 3 ._*, 3 @eaDir\n" in caplog.text
    write(tmp_path, *(f".a.jpg.{number:06d}" for number in range(40)))
    caplog.clear()
    images(tmp_path)
    assert ".a.jpg.000017 and 23 more names" in caplog.text


def test_directories_linked_crosswise_end(tmp_path):
    for name in range(12):
        write(tmp_path, f"{name}/a.jpg")
        for other in range(12):
            (tmp_path / str(name) / f"to{other}").symlink_to(tmp_path / str(other))
    with pytest.raises(UserError, match="more than 8 times; directories that are linked crosswise"):
        images(tmp_path)


@pytest.mark.parametrize("kernel", ["/proc", "/proc/self", "/sys/class"])
def test_links_into_the_kernels_directories_are_errors(tmp_path, kernel):
    write(tmp_path, "a.jpg")
    (tmp_path / "link").symlink_to(kernel)
    found, (error,) = images(tmp_path)
    assert found == ["a.jpg"]
    assert error.startswith(f"{tmp_path / 'link'}: lies in ")


def test_bounds(tmp_path, monkeypatch):
    deep = "/".join(["d"] * (image_listing.MAX_DEPTH + 1))
    write(tmp_path, f"{deep}/a.jpg", "b.jpg")
    found, (error,) = images(tmp_path)
    assert found == ["b.jpg"]
    assert "more than 64 directories deep" in error
    monkeypatch.setattr(image_listing, "MAX_ENTRIES", 50)
    with pytest.raises(UserError, match="more than 50 entries were found; is it the right directory?"):
        images(tmp_path)
