"""test.py --images and --query end to end, with a small checkpoint and rendered images; there is no data set."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from config import load_cfg
from datasets.synthetic.generate import SyntheticSettings, synthesize
from model import FeatureExtractor, load_model, make_model
from test import main, split_queries
from tests import commands
from tests.hostile.text import hostile_names
from utils.errors import UserError
from utils.escaping import read_cell

SIZE = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "DATALOADER.NUM_WORKERS", "0"]
pytestmark = pytest.mark.usefixtures("restored_logging")

TINY = [*SIZE, "MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with images/ and model.pth, which has side information of three cameras."""
    root = tmp_path_factory.mktemp("search")
    synthesize(root / "data", SyntheticSettings(num_identities=4, num_cameras=2, images_per_camera=2), workers=1)
    (root / "data" / "bounding_box_test").rename(root / "images")
    torch.manual_seed(0)
    model = make_model(load_cfg(opts=[*TINY, "CFAT.STAGE", "clean"]), num_classes=4, num_cameras=3, num_views=1)
    with torch.no_grad():
        model.base.sie_embed.normal_()
    torch.save(model.state_dict(), root / "model.pth")
    return root


def search(root, output, *arguments, opts=()):
    main([*map(str, arguments), "TEST.WEIGHT", str(root / "model.pth"), "OUTPUT_DIR", str(output), *SIZE, *opts])


def features_of(output):
    with np.load(output / "features.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_features_of_a_directory(root, tmp_path):
    search(root, tmp_path, "--images", root / "images", opts=["TEST.IMS_PER_BATCH", "3", "MODEL.SIE_CAMERA", "True"])
    found = features_of(tmp_path)
    paths = sorted(path.name for path in (root / "images").glob("*.jpg"))
    assert found["paths"].tolist() == paths
    assert (found["feature"], found["size"].tolist()) == ("patch_mean", [64, 32])
    cfg = load_cfg(opts=[*TINY, "MODEL.SIE_CAMERA", "False"])
    model = load_model(cfg, str(root / "model.pth"), num_cameras=1, num_views=1)
    for path, feature in list(zip(paths, found["features"], strict=True))[:3]:
        with Image.open(root / "images" / path) as file:
            image = np.asarray(file.resize((32, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1) / 255
        with torch.no_grad():
            alone = model.extract(torch.tensor(image[None]).float(), torch.zeros(1).long(), torch.zeros(1).long())
        np.testing.assert_allclose(feature, alone[0].numpy(), atol=1e-6)
    log = (tmp_path / "log.txt").read_text()
    assert "model.pth: images without cameras get the mean of the file's 3 side vectors\n" in log
    assert f"features of {len(paths)} images below {root / 'images'}: {tmp_path / 'features.npz'}" in log
    assert {path.name for path in tmp_path.iterdir()} == {"features.npz", "log.txt", ".lock"}


def test_images_ranked_for_one_of_them(root, tmp_path):
    query = sorted((root / "images").glob("*.jpg"))[4]
    search(root, tmp_path, "--images", root / "images", "--query", query)
    found = features_of(tmp_path)
    distances = np.linalg.norm(found["features"].astype(np.float64) - found["features"][4], axis=1)
    order = [index for index in np.argsort(distances, kind="stable") if index != 4]
    with (tmp_path / "ranked.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [read_cell(row["path"]) for row in rows] == found["paths"][order].tolist()
    np.testing.assert_allclose([float(row["distance"]) for row in rows], distances[order], atol=1e-5)
    with Image.open(tmp_path / "ranked.png") as figure:
        assert figure.width > 500
    log = (tmp_path / "log.txt").read_text()
    assert f"\n  |    1 |   {float(rows[0]['distance']):.4f} | {rows[0]['path']} " in log
    assert f"ranked gallery: {tmp_path / 'ranked.csv'}; its top-5: {tmp_path / 'ranked.png'}\n" in log


def test_hostile_names_stay_text(root, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    names = [*hostile_names(seed=10), "=1+1.jpg", "$x$_^{.jpg", "<b onclick=x>.jpg", "王小明.jpg"]
    source = next((root / "images").glob("*.jpg")).read_bytes()
    for name in names:
        (tmp_path / "images" / name).write_bytes(source)
    search(root, tmp_path / "out", "--images", tmp_path / "images", "--query", tmp_path / "images" / names[3])
    assert sorted(features_of(tmp_path / "out")["paths"].tolist()) == sorted(names)  # which needs no pickle
    with (tmp_path / "out" / "ranked.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert sorted([*(read_cell(row["path"]) for row in rows), names[3]]) == sorted(names)
    assert "'=1+1.jpg" in {row["path"] for row in rows}
    for output in ((tmp_path / "out" / "log.txt").read_text(), capsys.readouterr().out):
        assert all(character.isprintable() or character == "\n" for character in output)
        assert all(line[:1] in " 2" or line[2] == ":" for line in output.splitlines())
        assert "forged" not in [line[:6] for line in output.splitlines()]
    with Image.open(tmp_path / "out" / "ranked.png") as figure:
        assert figure.width > 500


def test_a_query_without_images_to_rank(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--query", "a.jpg"])
    assert ended.value.code == 2
    assert "error: --query IMAGE needs --images DIR" in capsys.readouterr().err


def test_bad_input_ends_in_one_message(root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    for arguments, message in (
        (["--images", tmp_path / "empty"], "no image below it; expected files that end in"),
        (["--images", tmp_path / "text.jpg"], "is a file; expected a directory with images"),
        (["--images", tmp_path / "nowhere"], "does not exist; expected a directory with images"),
        (["--images", ""], "does not exist; expected a directory with images"),
        (["--images", tmp_path], r"text\.jpg: cannot be read"),
        (["--images", root / "images", "--query", tmp_path / "text.jpg"], r"text\.jpg: cannot be read"),
        (["--images", root / "images", "--query", ""], "query image '': no such file"),
    ):
        with pytest.raises(UserError, match=message):
            search(root, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_key_without_a_value_is_named(root, tmp_path):
    with pytest.raises(ValueError, match=r"1 error.*\n.*TEST\.METRIC has no value"):
        search(root, tmp_path, "--images", root / "images", opts=["TEST.METRIC"])


def test_the_command_line_ends_with_one_message(root, tmp_path):
    done = commands.run("test.py", "--images", root / "images", "OUTPUT_DIR", tmp_path, *SIZE)
    assert done.returncode == 1
    assert done.stderr.startswith("error: TEST.WEIGHT is empty")


def test_several_queries_and_a_gallery_saved_before(root, tmp_path):
    queries = sorted((root / "images").glob("*.jpg"))[2:4]
    search(root, tmp_path / "a", "--images", root / "images", "--query", *queries)
    search(root, tmp_path / "b", "--gallery", tmp_path / "a" / "features.npz", "--query", *queries)
    tables = [(tmp_path / name / "ranked.csv").read_text() for name in "ab"]
    assert tables[0] == tables[1]
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"ranked.csv", "ranked.png", "log.txt", ".lock"}
    rows = list(csv.DictReader(tables[0].splitlines()))
    found = features_of(tmp_path / "a")
    for query, index in zip(queries, (2, 3), strict=True):
        distances = np.linalg.norm(found["features"].astype(np.float64) - found["features"][index], axis=1)
        order = [other for other in np.argsort(distances, kind="stable") if other != index]
        own = [row for row in rows if row["query"] == str(query)]
        assert [read_cell(row["path"]) for row in own] == found["paths"][order].tolist()
        assert [row["rank"] for row in own] == [str(rank) for rank in range(1, len(order) + 1)]
    search(root, tmp_path / "c", "--images", root / "images", "--query", *queries, "--top_k", "3")
    assert len((tmp_path / "c" / "ranked.csv").read_text().splitlines()) == 1 + 2 * 3


def test_a_gallery_in_half_precision_and_without_its_images(root, tmp_path):
    (tmp_path / "images").symlink_to(root / "images")
    query = sorted((root / "images").glob("*.jpg"))[0]
    search(root, tmp_path / "a", "--images", tmp_path / "images", opts=["TEST.FEATURE_DTYPE", "float16"])
    (tmp_path / "images").unlink()
    search(root, tmp_path / "b", "--gallery", tmp_path / "a" / "features.npz", "--query", query, "--top_k", "2")
    rows = list(csv.DictReader((tmp_path / "b" / "ranked.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert float(rows[0]["distance"]) < 1e-2  # the query itself: its file is not where the features say
    log = (tmp_path / "b" / "log.txt").read_text()
    assert "ranked.png is not drawn, for want of an image" in log
    np.save(tmp_path / "plain.npy", features_of(tmp_path / "a")["features"])
    search(root, tmp_path / "c", "--gallery", tmp_path / "plain.npy", "--query", query, "--top_k", "2")
    plain = (tmp_path / "c" / "log.txt").read_text()
    assert "ranked.csv, by row from 0: the features have no paths, so no images to draw" in plain
    assert not (tmp_path / "c" / "ranked.png").exists()
    assert f"ranked gallery: {tmp_path / 'b' / 'ranked.csv'}\n" in log


def test_features_of_something_else_are_refused(root, tmp_path):
    query = sorted((root / "images").glob("*.jpg"))[0]
    search(root, tmp_path / "a", "--images", root / "images")
    gallery = tmp_path / "a" / "features.npz"
    np.save(tmp_path / "narrow.npy", np.ones((4, 3), np.float32))
    for arguments, opts, message in (
        ([gallery], ["TEST.FEATURE", "neck"], "computed with TEST.FEATURE patch_mean, now neck"),
        ([gallery], ["TEST.FLIP", "True"], "TEST.FLIP False, now True"),
        ([tmp_path / "narrow.npy"], [], "narrow.npy: features of 3 values, those of this model have 192"),
        ([tmp_path / "none.npz"], [], "none.npz: cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            search(root, tmp_path / "b", "--gallery", *arguments, "--query", query, opts=opts)


def test_features_of_other_weights_are_refused(root, tmp_path):
    """Also where the checkpoint has the same name; the same weights may have another one."""
    query = sorted((root / "images").glob("*.jpg"))[0]
    weight = tmp_path / "model.pth"
    state = torch.load(root / "model.pth", weights_only=True)
    torch.save(state, weight)
    at = ["TEST.WEIGHT", str(weight)]
    search(root, tmp_path / "a", "--images", root / "images", opts=at)
    gallery = tmp_path / "a" / "features.npz"
    search(root, tmp_path / "b", "--gallery", gallery, "--query", query)
    assert "distances mean nothing" not in (tmp_path / "b" / "log.txt").read_text()
    rank = FeatureExtractor(root / "model.pth", opts=SIZE, progress=False).rank
    assert rank(query, gallery, k=1).indices.shape == (1, 1)
    state["base.cls_token"] += 1e-3
    torch.save(state, weight)
    with pytest.raises(UserError, match=rf"its features are of other weights \(from {weight}\) than those now in"):
        search(root, tmp_path / "c", "--gallery", gallery, "--query", query, opts=at)
    rank = FeatureExtractor(weight, opts=SIZE, progress=False).rank
    with pytest.raises(UserError, match=f"its features are of other weights than those in {weight}"):
        rank(query, gallery, k=1)
    with np.load(gallery) as arrays:
        earlier = {name: values for name, values in arrays.items() if name != "weights_sha256"}
    np.savez(tmp_path / "earlier.npz", **earlier | {"weight": "other.pth"})
    search(root, tmp_path / "d", "--gallery", tmp_path / "earlier.npz", "--query", query)
    assert "features of checkpoint other.pth, queries of" in (tmp_path / "d" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "a", "--gallery", "b.npz"], "give one of the two"),
        (["--gallery", "b.npz"], "--gallery FEATURES needs --query IMAGE"),
        (["--images", "a", "--query", "b.jpg", "--index", "ivf"], "--index ivf searches the features of --gallery"),
        (["--images", "a", "--query", "b.jpg", "--top_k", "0"], "'0' is no integer of at least 1"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_keys_may_follow_the_queries(tmp_path):
    (tmp_path / "TEST.WEIGHT").touch()
    for given, queries, opts in (
        (["a.jpg", "TEST.WEIGHT", "b.pth"], ["a.jpg"], ["TEST.WEIGHT", "b.pth"]),
        (["a.jpg", "B.JPG", "SEED", "3"], ["a.jpg", "B.JPG"], ["SEED", "3"]),
        (["a.jpg", str(tmp_path / "TEST.WEIGHT")], ["a.jpg", str(tmp_path / "TEST.WEIGHT")], []),
        ([], [], []),
    ):
        assert split_queries(given) == (queries, opts)
