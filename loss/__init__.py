"""Loss terms, each (embeddings or logits, labels) -> scalar, and their weighted sum for a stage.

make_loss      the sum of the terms that a stage's configuration asks for: (output, batch) -> {"loss": total, ...}
CombinedLoss   what make_loss returns
check          checks a stage's configuration without building anything

Terms: identity (cross-entropy), margins (arcface, cosface, circle), triplet, center, consistency, alignment (CFAT's)
"""

import lazy_loader

import utils  # noqa: F401  first, for the environment

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
