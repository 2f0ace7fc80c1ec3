"""Builds the Cython extensions in place: python setup.py build_ext --inplace"""

from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
PACKAGES = ("corruption", "utils")  # not all of the tree, which may hold a virtual environment


def make_extension(source: Path) -> Extension:
    """The extension of one .pyx file, whose module is named like its path.

    Results are exact: no -ffast-math and no fused multiply-add. -fno-trapping-math changes no value, and lets the
    compiler vectorise clipping.
    """
    return Extension(
        ".".join(source.with_suffix("").parts),
        [source.as_posix()],
        include_dirs=[np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-O3", "-fopenmp", "-ffp-contract=off", "-fno-trapping-math"],
        extra_link_args=["-fopenmp"],
    )


sources = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.pyx"))]
setup(
    name="cfat",
    packages=[],
    ext_modules=cythonize([make_extension(source) for source in sources], compiler_directives={"language_level": "3"}),
)
