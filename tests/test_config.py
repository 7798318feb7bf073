"""What a mistake in a constant or in the data gets: one clear line each, and no training."""

import hashlib
import struct

import command
import numpy as np
import pytest
from command import copy_program, own_lines, read_run, run, small_program

import config
import train_mnist


def fails_with(folder, *expected, **environment):
    """Run the command; each of its lines must hold the texts of one expected tuple, in order."""
    process = run(folder, exits=1, **environment)
    lines = own_lines(process)
    assert len(lines) == len(expected), process.stderr
    for line, texts in zip(lines, expected, strict=True):
        assert line.startswith("config.py: ")
        for text in texts:
            assert text in line
    assert "Epoch" not in process.stdout and not (folder / "results").exists()


# as they would stand in config.py
WRONG = {
    "SEED": ["-1", "2**32"],
    "DATA_PATH": ["5", "['data/mnist.npz']"],
    "RESHAPED": ["0", "784.0"],
    "NB_CLASSES": ["1", "None"],
    "VALIDATION_SPLIT": ["1", "'0.2'"],
    "HIDDEN_LAYERS": ["-1", "True"],
    "N_HIDDEN": ["0", "128.0"],
    "DROPOUT": ["1.0", "-0.1"],
    "NB_EPOCH": ["0", "10**12"],
    "BATCH_SIZE": ["0", "'128'"],
    "OPTIMIZER": ["None", "['sgd']"],
    "LEARNING_RATE": ["0", "float('nan')"],
    "LOSS": ["None", "3"],
    "METRICS": ["'accuracy'", "('accuracy',)"],
    "STEPS_PER_EXECUTION": ["0", "125.0"],
    "RESULTS_DIR": ["None", "0"],
    "VERBOSE": ["3", "False"],
}


@pytest.mark.parametrize("at", range(2))
def test_all_faulty_constants_are_reported_at_once(tmp_path, at):
    assert list(WRONG) == list(train_mnist.ALLOWED)
    folder = copy_program(tmp_path / "program")
    lines = "\n".join(f"{name} = {values[at]}" for name, values in WRONG.items())
    (folder / "config.py").write_text(lines)
    fails_with(folder, *((f"{k} = {eval(v[at])!r}: it must be ",) for k, v in WRONG.items()))


def test_missing_and_unknown_constants(tmp_path):
    folder = copy_program(tmp_path / "program", NB_EPOCHS=5, Optimizer="adam", GRAVITY=9.81)
    text = (folder / "config.py").read_text("utf-8")
    (folder / "config.py").write_text(text.replace("\nLOSS = ", "\nLOS = "), "utf-8")
    fails_with(
        folder,
        ("LOSS is missing",),
        ("LOS is unknown. Did you mean LOSS?",),
        ("NB_EPOCHS is unknown. Did you mean NB_EPOCH?",),
        ("Optimizer is unknown. Did you mean OPTIMIZER?",),
        ("GRAVITY is unknown. A new one goes into ALLOWED in train_mnist.py",),
    )


def test_names_that_keras_does_not_know_or_cannot_use(tmp_path):
    metrics = ["accuracy", "acuracy", "sparse_categorical_accuracy"]
    names = {"OPTIMIZER": "sdg", "LOSS": "sparse_categorical_crossentropy", "METRICS": metrics}
    fails_with(
        copy_program(tmp_path / "program", **names),
        ("OPTIMIZER: ", "'sdg'"),
        ("LOSS: ", "'sparse_categorical_crossentropy' fails in a step with one-hot labels: "),
        ("METRICS: ", "'acuracy'"),
        ("METRICS: ", "'sparse_categorical_accuracy'"),
    )


def test_metrics_that_are_not_names(tmp_path):
    for items in ("[keras.metrics.Recall()]", "[['accuracy']]", "[len]"):
        folder = copy_program(tmp_path / "program")
        with open(folder / "config.py", "a") as file:
            file.write(f"import keras\nMETRICS = {items}\n")
        fails_with(folder, ("METRICS = [", ": names only; objects go into main's compile"))


def test_imports_and_paths_are_fine(tmp_path):
    program = small_program(tmp_path)
    lines = ["import numpy as np", "from pathlib import Path", "LEARNING_RATE = np.float64(0.5)"]
    lines += ["DATA_PATH = Path(DATA_PATH)", "RESULTS_DIR = Path('results')", ""]
    with open(program / "config.py", "a") as file:
        file.write("\n".join(lines))
    assert own_lines(run(program)) == []
    constants = read_run(program)[1]["constants"]
    assert constants["LEARNING_RATE"] == 0.5 and constants["RESULTS_DIR"] == "results"


# SHA-256 of the four original IDX files, uncompressed
IDX = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def test_bundled_arrays_written_as_idx_are_the_original_files():
    (X_train, y_train), (X_test, y_test) = train_mnist.load_data()
    for key, array in zip(IDX, (X_train, y_train, X_test, y_test), strict=True):
        assert array.dtype == np.uint8
        magic = 0x0800 + array.ndim  # 0x08: unsigned bytes
        header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
        assert hashlib.sha256(header + array.tobytes()).hexdigest() == IDX[key]


# what is done to the digits, and what is said of them
SPOILT = {
    "an array missing": (lambda a: a.pop("y_test"), "y_test is not a file in the archive"),
    "floats": (lambda a: a.update(x_test=a["x_test"] / 255), "x_test is float64"),
    "fewer labels": (lambda a: a.update(y_train=a["y_train"][1:]), r"\(499,\), not 500 integers"),
    "one-hot": (lambda a: a.update(y_test=np.eye(10, dtype=int)[a["y_test"]]), r"\(100, 10\)"),
    "no images": (lambda a: a.update(x_test=a["x_test"][:0]), r"x_test is uint8 of shape \(0, "),
    "from 1": (lambda a: a.update(y_train=a["y_train"] + 1), "has 1 to 10, not 0 to NB_CLASSES"),
}


@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT)
def test_data_of_another_kind(tmp_path, monkeypatch, spoil, message):
    arrays = command.digits()
    spoil(arrays)
    np.savez(tmp_path / "digits.npz", **arrays)
    monkeypatch.setattr(config, "DATA_PATH", str(tmp_path / "digits.npz"))
    with pytest.raises(SystemExit, match=rf"^config.py: DATA_PATH = .*digits.npz'.*{message}"):
        train_mnist.load_data()


def test_data_that_is_not_there_or_does_not_fit_is_one_line(tmp_path):
    folder = small_program(tmp_path, RESHAPED=783)
    fails_with(folder, ("x_train is uint8 of shape (500, 28, 28), not uint8 with RESHAPED = 783",))
    command.edit_config(folder, DATA_PATH="mnist.npz")
    fails_with(folder, ("DATA_PATH = 'mnist.npz' cannot be read: FileNotFoundError",))


def test_download_without_network(tmp_path):
    expected = ("DATA_PATH = 'None' cannot be read: ", "refused", "data is 'data/mnist.npz'")
    environment = {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    fails_with(copy_program(tmp_path / "program", DATA_PATH=None), expected, **environment)


def test_warnings_of_sorted_labels_and_of_dark_images(tmp_path):
    program = small_program(tmp_path)
    arrays = command.digits()
    order = np.argsort(arrays["y_train"], kind="stable")
    arrays |= {"x_train": arrays["x_train"][order] // 16, "y_train": arrays["y_train"][order]}
    np.savez(tmp_path / "digits.npz", **arrays)
    held_out, dark = own_lines(run(program))
    assert "digits.npz" in held_out and "has the classes [8, 9]" in held_out
    assert "digits.npz" in dark and "up to 15, and 255 is expected" in dark
    assert read_run(program)[1]["status"] == "finished"
