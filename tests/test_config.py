"""What a mistake in a constant or in the data gets: one clear line each, and no training."""

import hashlib
import struct

import command
import numpy as np
import pytest
from command import SUPPLIED, copy_program, own_lines, run, small_program

import config
import train_mnist


def fails_with(folder, *expected, **environment):
    """Run the command; each of its lines must hold the texts of one expected tuple, in order."""
    process = run(folder, exits=1, **environment)
    for line, texts in zip(own_lines(process), expected, strict=True):
        assert line.startswith(f"{folder / 'config.py'}: ")
        assert all(text in line for text in texts), line
    assert "Epoch" not in process.stdout and not (folder / "results").exists()


def test_config_is_as_supplied():  # the only test that an edited config.py makes fail
    assert {name: getattr(config, name) for name in SUPPLIED} == SUPPLIED


# as they would stand in config.py
WRONG = {
    "SEED": ["-1", "2**32"],
    "RESHAPED": ["0", "784.0"],
    "NB_CLASSES": ["1", "None"],
    "VALIDATION_SPLIT": ["1", "'0.2'"],
    "HIDDEN_LAYERS": ["-1", "True"],
    "N_HIDDEN": ["0", "128.0"],
    "DROPOUT": ["1.0", "-0.1"],
    "NB_EPOCH": ["0", "10**12"],
    "BATCH_SIZE": ["0", "'128'"],
    "LEARNING_RATE": ["0", "float('nan')"],
    "STEPS_PER_EXECUTION": ["0", "125.0"],
    "THREADS": ["0", "float('inf')"],
    "VERBOSE": ["3", "False"],
}


@pytest.mark.parametrize("at", range(2))
def test_all_numbers_out_of_their_limits_are_reported_at_once(tmp_path, at):
    assert set(WRONG) == {k for k, v in SUPPLIED.items() if v is None or isinstance(v, int | float)}
    folder = copy_program(tmp_path / "program")
    with open(folder / "config.py", "a") as file:
        file.writelines(f"{name} = {values[at]}\n" for name, values in WRONG.items())
    fails_with(folder, *([f"{k} = {eval(v[at])!r}: it must be a "] for k, v in WRONG.items()))


def test_missing_and_misspelt_constants(tmp_path):
    """What resembles nothing, or was imported, is the user's own affair."""
    folder = copy_program(tmp_path / "program", NB_EPOCHS=5, Optimizer="adam", NAME="first")
    command.edit_script(folder, "    # normalize", "    # config.SPEED\n    config.NAME")
    text = (folder / "config.py").read_text("utf-8").replace("\nLOSS = ", "\nLOS = ")
    imports = "from keras import losses, metrics, optimizers\nfrom pathlib import Path\n"
    (folder / "config.py").write_text(imports + text, "utf-8")
    pairs = [("LOS", "LOSS"), ("NB_EPOCHS", "NB_EPOCH"), ("Optimizer", "OPTIMIZER")]
    misspelt = [[f"{a} is not used by train_mnist.py, which uses {b}"] for a, b in pairs]
    fails_with(folder, ["LOSS is missing"], *misspelt)


# SHA-256 of the four original IDX files, uncompressed
IDX = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def test_bundled_arrays_written_as_idx_are_the_original_files():
    with np.load(command.MNIST) as arrays:
        for key in IDX:
            assert arrays[key].dtype == np.uint8
            magic = 0x0800 + arrays[key].ndim  # 0x08: unsigned bytes
            header = struct.pack(f">{1 + arrays[key].ndim}I", magic, *arrays[key].shape)
            assert hashlib.sha256(header + arrays[key].tobytes()).hexdigest() == IDX[key]


# what is done to the digits, and what is said of them
SPOILT = {
    "an array missing": (lambda a: a.pop("y_test"), "y_test is not a file in the archive"),
    "objects": (lambda a: a.update(y_test=a["y_test"].astype(object)), "allow_pickle=False"),
    "floats": (lambda a: a.update(x_test=a["x_test"] / 255), "x_test is float64"),
    "fewer labels": (lambda a: a.update(y_train=a["y_train"][1:]), r"y_train is \(499,\)"),
    "one-hot": (lambda a: a.update(y_test=np.eye(10, dtype=int)[a["y_test"]]), r"\(100, 10\)"),
    "no images": (lambda a: a.update(x_test=a["x_test"][:0]), r"x_test is uint8 \(0, 28, 28\)"),
    "from 1": (lambda a: a.update(y_train=a["y_train"] + 1), r"with \[10\].* labels below 10"),
    "from -1": (lambda a: a.update(y_test=a["y_test"].astype(int) - 1), r"with \[-1\].* below 10"),
}


@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT)
def test_data_of_another_kind(tmp_path, monkeypatch, spoil, message):
    arrays = command.digits()
    spoil(arrays)
    np.savez(tmp_path / "digits.npz", **arrays)
    for name, value in {**SUPPLIED, "DATA_PATH": str(tmp_path / "digits.npz")}.items():
        monkeypatch.setattr(config, name, value, raising=False)
    with pytest.raises(train_mnist.ConfigError, match=rf"DATA_PATH = .*digits.npz'.*{message}"):
        train_mnist.load_data()


@pytest.mark.parametrize(
    "constants, texts",
    [
        ({"RESHAPED": 783}, ["x_train is uint8 (500, 28, 28), not uint8, RESHAPED = 783 values"]),
        (
            {"DATA_PATH": "mnist.npz"},
            ["'mnist.npz'", "'data/mnist.npz' is bundled", "No such file"],
        ),
        ({"DATA_PATH": None}, ["'None'", "'data/mnist.npz' is bundled", "refused"]),
    ],
)
def test_data_that_is_not_there_or_does_not_fit_is_one_line(tmp_path, constants, texts):
    """Nobody answers where the download is sent."""
    environment = {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    fails_with(small_program(tmp_path, **constants), texts, **environment)
