"""Which name of an image its corruption is seeded from: the same image, the same corruption."""

import pytest

from config import load_cfg
from datasets import make_dataloader
from datasets.readers.validation import seed_label
from tests.datasets.readers.test_custom import write
from utils.structures import Condition


@pytest.mark.parametrize(
    ("path", "root", "label"),
    [
        ("data/a/b.jpg", "data", "a/b.jpg"),
        ("data/a//b.jpg", "data/", "a/b.jpg"),
        ("data/./a/c/../b.jpg", "./data", "a/b.jpg"),
        ("b.jpg", ".", "b.jpg"),
        ("../b.jpg", ".", "../b.jpg"),
        ("/data/lists/../images/b.jpg", "/data/lists", "../images/b.jpg"),
        ("data/lists/../images/b.jpg", "data/lists", "../images/b.jpg"),
        ("/disk/b.jpg", "/data/lists", "/disk/b.jpg"),
        ("/disk/b.jpg", "lists", "/disk/b.jpg"),
        ("/disk/a/../b.jpg", "/data", "/disk/b.jpg"),
        ("/data/..b.jpg", "/data", "..b.jpg"),
        ("/data/jose\u0301.jpg", "/data", "jose\u0301.jpg"),  # as it is written: what was corrupted before stays
    ],
)
def test_labels(path, root, label):
    assert seed_label(path, root) == label


def test_links_and_relative_roots(tmp_path, monkeypatch):
    write(tmp_path / "real", "a/b.png")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "linked").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    for root in ("real", "link", "./link", str(tmp_path / "real"), str(tmp_path / "link")):
        for path in (f"{root}/a/b.png", str(tmp_path / "real/a/b.png"), str(tmp_path / "link/a/b.png")):
            assert seed_label(path, root) == "a/b.png"
        assert seed_label(f"{root}/linked/b.png", root) == "linked/b.png"


def corrupted(root, file):
    opts = [
        "DATASETS.NAMES",
        "csv",
        "DATASETS.ROOT_DIR",
        str(root),
        "DATASETS.CSV.FILE",
        file,
        "DATALOADER.NUM_WORKERS",
        "0",
        "DATASETS.SPLIT.TRAIN_SHARE",
        "0.5",
    ]
    data = make_dataloader(load_cfg(opts=opts), with_train=False)
    names = [record.path.rsplit("/", 1)[-1] for record in data.splits.gallery]
    images = [data.read_test_image("gallery", index, Condition("random"), 0) for index in range(len(names))]
    return {name: image.tobytes() for name, image in zip(names, images, strict=True)}


def test_a_moved_list_gives_the_same_corruptions(tmp_path):
    names = [f"{name}.png" for name in "abcdef"]
    write(tmp_path / "m" / "photos", *names)
    rows = "".join(f"{tmp_path}/m/photos/{name},{index // 3},test\n" for index, name in enumerate(names))
    found = []
    for place in ("a/lists", "z", "m"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "data.csv").write_text(f"path,pid,split\n{rows}")
        found.append(corrupted(tmp_path / place, "data.csv"))
    assert found[0] == found[1]
    assert found[0].keys() == found[2].keys()  # below ROOT_DIR the label is the path below it
    (tmp_path / "m" / "data.csv").write_text(f"path,pid,split\n{rows.replace(f'{tmp_path}/m/', './')}")
    assert corrupted(tmp_path / "m", "data.csv") == found[2]


def test_queries_are_sampled_alike_wherever_the_list_lies(tmp_path):
    names = [f"{name}.png" for name in "abcd"]
    rows = [f"{tmp_path}/m/{name},1,test\n" for name in names] + [f"{name},1,test\n" for name in names]
    write(tmp_path / "m", *names)
    found = set()
    for place in ("a", "z"):
        write(tmp_path / place, *names)
        (tmp_path / place / "data.csv").write_text("path,pid,split\n" + "".join(rows))
        found.add(frozenset(corrupted(tmp_path / place, "data.csv")))
        cfg = load_cfg(opts=["DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tmp_path / place)])
        (query,) = make_dataloader(cfg, with_train=False).splits.query
        found.add(seed_label(query.path, str(tmp_path / place)))
    assert len(found) == 2
