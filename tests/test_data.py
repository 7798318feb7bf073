"""The bundled data is MNIST to the byte, and load_data gives it as it promises."""

import hashlib
import struct

import numpy as np
import pytest
from command import ROOT

import train_mnist

# SHA-256 of the four original IDX files, uncompressed
IDX = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@pytest.mark.parametrize("key", IDX)
def test_arrays_written_as_idx_are_the_original_files(key):
    with np.load(ROOT / "data" / "mnist.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == sorted(IDX)
        array = arrays[key]
    magic = 0x0800 + array.ndim  # 0x08: unsigned bytes
    header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    assert hashlib.sha256(header + array.tobytes()).hexdigest() == IDX[key]


def test_load_data_gives_mnist_unchanged():
    (X_train, y_train), (X_test, y_test) = train_mnist.load_data()
    assert X_train.shape == (60000, 28, 28) and X_test.shape == (10000, 28, 28)
    assert y_train.shape == (60000,) and y_test.shape == (10000,)
    for X in (X_train, X_test):
        assert X.dtype == np.uint8 and X.min() == 0 and X.max() == 255
    for y in (y_train, y_test):
        assert y.dtype == np.uint8 and set(y) == set(range(10))
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]
