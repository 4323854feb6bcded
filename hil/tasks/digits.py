"""Handwritten digits: 1,797 real pictures of 8x8 pixels that come with scikit-learn.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (its test set, which `sklearn.datasets.load_digits` bundles).
"""

from __future__ import annotations

import numpy as np

from hil.tasks.data import Data, split


def load(seed: int = 0) -> Data:
    """Half of the digits is held out; of the rest two thirds train and one third is for search.

    Pixels lie between 0 and 1.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.asarray(bunch.images, dtype=np.float32) / np.float32(16)
    return split(pixels[:, None], np.asarray(bunch.target, dtype=np.int64), seed=seed)
