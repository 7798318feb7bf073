"""What a mistake in a constant or in the data gets: one clear line each, and no training."""

import hashlib
import struct

import command
import numpy as np
import pytest

import config
import train_mnist
from train_mnist import ConfigError


def test_config_is_as_supplied():  # the only test that an edited config.py makes fail
    assert {name: getattr(config, name) for name in command.SUPPLIED} == command.SUPPLIED


INFINITE = float("inf")
NAN = float("nan")
WRONG = {
    "SEED": [-1, 2**32, 1.5, "1671"],
    "RESHAPED": [0, 784.0],
    "NB_CLASSES": [1, None],
    "VALIDATION_SPLIT": [-0.1, 1, "0.2"],
    "HIDDEN_LAYERS": [-1, 1.0],
    "N_HIDDEN": [0, [128]],
    "DROPOUT": [-0.1, 1.0, NAN],
    "NB_EPOCH": [0, 20.0],
    "BATCH_SIZE": [0, "128"],
    "LEARNING_RATE": [0, -0.1, INFINITE, NAN, "0.1"],
    "STEPS_PER_EXECUTION": [0, None],
    "VERBOSE": [-1, 3],
}


def test_every_number_has_limits():
    numbers = {k for k, v in command.SUPPLIED.items() if v is None or isinstance(v, int | float)}
    assert set(WRONG) == set(train_mnist.LIMITS) == numbers


@pytest.mark.parametrize("name, value", [(name, v) for name in WRONG for v in WRONG[name]])
def test_a_number_out_of_its_limits_is_told(constants, name, value):
    constants(**{name: value})
    with pytest.raises(ConfigError) as told:
        train_mnist.check_constants()
    assert str(told.value).startswith(f"{config.__file__}: {name} = {value!r}: it must be a ")
    assert "\n" not in str(told.value)


def test_the_line_says_what_would_be_right(constants):
    constants(SEED=-1)
    with pytest.raises(ConfigError, match="SEED = -1: it must be a whole number, from 0 to 42"):
        train_mnist.check_constants()


def test_all_faults_are_told_at_once(constants):
    constants(**{name: values[0] for name, values in WRONG.items()})
    with pytest.raises(ConfigError) as told:
        train_mnist.check_constants()
    assert len(str(told.value).splitlines()) == len(WRONG)


RIGHT = {
    "SEED": [0, 2**32 - 1, np.int64(3)],
    "VALIDATION_SPLIT": [0, 0.999, np.float32(0.5)],
    "DROPOUT": [0, 0.5],
    "NB_EPOCH": [1, 10**12],
    "LEARNING_RATE": [None, 1, np.float64(0.1)],
    "VERBOSE": [True, 0, 2],
}


@pytest.mark.parametrize("name, value", [(name, v) for name in RIGHT for v in RIGHT[name]])
def test_a_number_within_its_limits_passes(constants, name, value):
    constants(**{name: value})
    train_mnist.check_constants()


@pytest.mark.parametrize("name", ["HIDEN_LAYERS", "EPOCHS", "BATCH", "SEEDS"])
def test_a_name_that_nothing_uses_is_a_warning(constants, capsys, name):
    constants(**{name: 5})
    train_mnist.warn_of_unused_constants()
    warning = f"{config.__file__}: {name} is not used by train_mnist.py\n"
    assert capsys.readouterr().err == warning


def test_the_constants_as_supplied_are_all_used(constants, capsys):
    train_mnist.warn_of_unused_constants()
    assert capsys.readouterr().err == ""


def test_a_missing_constant_is_pythons_own_error(constants, monkeypatch):
    monkeypatch.delattr(config, "DROPOUT")
    with pytest.raises(AttributeError, match="module 'config' has no attribute 'DROPOUT'"):
        train_mnist.check_constants()


# SHA-256 of the four original IDX files, uncompressed
IDX = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@pytest.mark.parametrize("key", IDX)
def test_a_bundled_array_written_as_idx_is_the_original_file(key):
    with np.load(command.MNIST) as arrays:
        array = arrays[key]
    assert array.dtype == np.uint8
    magic = 0x0800 + array.ndim  # 0x08: unsigned bytes
    header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    assert hashlib.sha256(header + array.tobytes()).hexdigest() == IDX[key]


def data_fault(constants, path):
    """Load the file; return what is told of it, without the constant's name and value."""
    constants(DATA_PATH=str(path))
    with pytest.raises(ConfigError) as told:
        train_mnist.load_data()
    source = f"{config.__file__}: DATA_PATH = {str(path)!r}"
    assert str(told.value).startswith(source)
    assert "\n" not in str(told.value)
    return str(told.value).removeprefix(source)


def test_data_that_is_not_there(tmp_path, constants):
    fault = data_fault(constants, tmp_path / "none.npz")
    assert "'data/mnist.npz' is bundled" in fault
    assert "No such file or directory" in fault


def test_data_that_is_no_npz_file(tmp_path, constants):
    (tmp_path / "text.npz").write_text("a,b,c")
    assert "'data/mnist.npz' is bundled" in data_fault(constants, tmp_path / "text.npz")


def test_data_that_is_cut_short(tmp_path, constants, digits):
    (tmp_path / "short.npz").write_bytes(digits.read_bytes()[:100000])
    assert "'data/mnist.npz' is bundled" in data_fault(constants, tmp_path / "short.npz")


def spoil(tmp_path, **arrays):
    """Write the digits with other arrays in place of some; return the path."""
    changed = command.first_digits() | arrays
    np.savez(tmp_path / "spoilt.npz", **{key: a for key, a in changed.items() if a is not None})
    return tmp_path / "spoilt.npz"


def test_data_that_is_empty(tmp_path, constants):
    (tmp_path / "empty.npz").write_bytes(b"")
    assert "'data/mnist.npz' is bundled" in data_fault(constants, tmp_path / "empty.npz")


def test_a_slip_in_load_data_is_pythons_own_error(constants, monkeypatch):
    monkeypatch.delattr(train_mnist, "path_of")
    with pytest.raises(NameError):
        train_mnist.load_data()


def test_data_with_an_array_missing(tmp_path, constants):
    fault = data_fault(constants, spoil(tmp_path, y_test=None))
    assert "y_test is not a file in the archive" in fault


def test_images_that_are_not_uint8(tmp_path, constants):
    X = command.first_digits()["x_test"] / 255
    fault = data_fault(constants, spoil(tmp_path, x_test=X))
    expected = "not uint8 images of RESHAPED = 784 values"
    assert fault == f": x_test is float64 (100, 28, 28), {expected}"


def test_images_of_another_size(constants, digits):
    constants(RESHAPED=783)
    fault = data_fault(constants, digits)
    expected = "not uint8 images of RESHAPED = 783 values"
    assert fault == f": x_train is uint8 (500, 28, 28), {expected}"


def test_no_images(tmp_path, constants):
    empty = np.zeros((0, 28, 28), "uint8")
    fault = data_fault(constants, spoil(tmp_path, x_test=empty))
    assert fault.startswith(": x_test is uint8 (0, 28, 28), not ")


def test_labels_that_are_not_whole_numbers(tmp_path, constants):
    y = command.first_digits()["y_train"].astype("float32")
    fault = data_fault(constants, spoil(tmp_path, y_train=y))
    assert fault == ": y_train is float32 (500,), not 500 whole numbers"


def test_labels_fewer_than_images(tmp_path, constants):
    y = command.first_digits()["y_train"][1:]
    fault = data_fault(constants, spoil(tmp_path, y_train=y))
    assert fault == ": y_train is uint8 (499,), not 500 whole numbers"


def test_one_hot_labels(tmp_path, constants):
    Y = np.eye(10, dtype="uint8")[command.first_digits()["y_test"]]
    fault = data_fault(constants, spoil(tmp_path, y_test=Y))
    assert fault == ": y_test is uint8 (100, 10), not 100 whole numbers"


def test_labels_from_1(tmp_path, constants):
    y = command.first_digits()["y_train"] + 1
    fault = data_fault(constants, spoil(tmp_path, y_train=y))
    assert fault == ": y_train has labels from 1 to 10, not from 0 to NB_CLASSES - 1 = 9"


def test_labels_below_0(tmp_path, constants):
    y = command.first_digits()["y_test"].astype(int) - 1
    fault = data_fault(constants, spoil(tmp_path, y_test=y))
    assert fault == ": y_test has labels from -1 to 8, not from 0 to NB_CLASSES - 1 = 9"
