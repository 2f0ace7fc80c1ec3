"""Features in files, read by rows."""

import numpy as np
import pytest

from utils.errors import UserError
from utils.feature_files import StoredArray, is_feature_file, open_features

FEATURES = np.random.default_rng(0).standard_normal((50, 6))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_rows(tmp_path, dtype, kind):
    features, path = FEATURES.astype(dtype), tmp_path / ("a.npy" if kind == "npy" else "a.npz")
    paths = np.array([f"{row}é.jpg" for row in range(50)])
    if kind == "npy":
        np.save(path, features)
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(path, paths=paths, features=features, root=np.array("images"), weight=np.array("a.pth"))
    file = open_features(path)
    assert isinstance(file.features, StoredArray) == (kind != "compressed")
    assert file.features.shape == (50, 6)
    assert file.features.dtype == features.dtype
    for rows in (slice(0, 7), slice(45, 60), slice(None), slice(3, 3), slice(1, 20, 3), np.array([4, 49, 0, 4])):
        np.testing.assert_array_equal(file.features[rows], features[rows])
    if kind != "npy":
        assert (file.text("root"), file.text("weight"), file.text("none")) == ("images", "a.pth", "")
        assert file.others["paths"][np.array([3, 1])].tolist() == ["3é.jpg", "1é.jpg"]


def test_what_is_no_file_of_features(tmp_path):
    np.savez(tmp_path / "other.npz", distances=FEATURES)
    np.save(tmp_path / "whole.npy", FEATURES.astype(int))
    np.save(tmp_path / "flat.npy", FEATURES[0])
    np.save(tmp_path / "empty.npy", FEATURES[:0])
    np.save(tmp_path / "columns.npy", np.asfortranarray(FEATURES))
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "short.npy", FEATURES)
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:-8])
    for name, message in (
        ("other.npz", "holds distances, expected an array named features"),
        ("whole.npy", r"features are \(50, 6\) of int64, expected \(N, D\) of float16"),
        ("flat.npy", r"features are \(6,\) of float64"),
        ("empty.npy", r"features are \(0, 6\)"),
        ("columns.npy", "holds Python objects or columns"),
        ("objects.npy", "holds Python objects or columns"),
        ("text.npz", "cannot be read .*expected a .npz or .npy file of features"),
        ("short.npy", "ends before its last value; it is incomplete"),
        ("none.npz", "cannot be opened"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{message}"):
            open_features(tmp_path / name)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    np.save(tmp_path / "a.npy", FEATURES)
    file = open_features(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:1000])
    with pytest.raises(UserError, match="ended before its last feature"):
        file.features[:]


def test_suffixes():
    assert [is_feature_file(name) for name in ("a.npz", "b.NPY", "a.jpg", "npz")] == [True, True, False, False]
