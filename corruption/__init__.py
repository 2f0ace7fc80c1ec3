"""The 20 image corruptions, twelve further ones, and the policies and protocols that say which image gets which.

Command line: `python -m corruption list|grid|export`. A name is imported on first use, so `from corruption import
CORRUPTIONS` loads neither NumPy nor OpenCV; `__init__.pyi` lists all names with their modules.

names       CORRUPTIONS, FAMILIES, SEVERITIES; beyond the 20: UNSEEN, SURVEILLANCE, FURTHER_FAMILIES
apply       corrupt(image, name, severity, rng): checks its arguments and calls the backend
protocols   training and test policies, the four protocols, the corruption matrix; check(cfg)
noise, blur, weather, rain, digital, with draws and _kernels     the backend `fast`: compiled kernels
imagecorruptions_backend                                         the backend `imagecorruptions`: the published code
unseen, with _unseen (compiled) or unseen_arrays (NumPy)         the ten corruptions of ImageNet-C-bar, in both backends
surveillance, with level_tables                                  low_light and low_resolution, in both backends
"""

import lazy_loader

import utils  # noqa: F401  first: completes the environment of users whom the system does not know

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
