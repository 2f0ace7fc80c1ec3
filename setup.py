"""Builds the Cython extensions in place: python setup.py build_ext --inplace"""

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = [
    "corruption/_kernels.pyx",
    "utils/metrics/rank_cylib.pyx",
    "utils/metrics/rerank_cylib.pyx",
]


def make_extension(source: str) -> Extension:
    """The extension of one .pyx file; its module is named like its path.

    Results stay exact: no -ffast-math and no fused multiply-add. -fno-trapping-math changes no value; with it the
    compiler vectorises clipping.
    """
    return Extension(
        source.removesuffix(".pyx").replace("/", "."),
        [source],
        include_dirs=[np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-O3", "-fopenmp", "-ffp-contract=off", "-fno-trapping-math"],
        extra_link_args=["-fopenmp"],
    )


setup(
    name="cfat",
    packages=[],
    ext_modules=cythonize([make_extension(source) for source in SOURCES], compiler_directives={"language_level": "3"}),
)
