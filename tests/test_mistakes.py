"""What a user's mistake gets: one clear line each on standard error, no traceback, no training."""

import numpy as np
import pytest
from command import ROOT, copy_program, digits, own_lines, run, save_digits

import train_mnist


def fails_with(folder, *expected, arguments=(), **environment):
    """Run the command; each of its lines must hold the texts of one expected tuple, in order."""
    process = run(folder, *arguments, **environment)
    lines = own_lines(process.stderr)
    assert process.returncode not in (0, None)
    assert len(lines) == len(expected), process.stderr
    for line, texts in zip(lines, expected, strict=True):
        for text in texts:
            assert text in line
    assert "Traceback" not in process.stderr
    assert "Epoch" not in process.stdout and "Test" not in process.stdout


# as they would stand in config.py
WRONG = {
    "SEED": ["-1", "2**32", "1.5", "True", "None", "'1671'"],
    "DATA_PATH": ["''", "5", "True", "['data/mnist.npz']"],
    "RESHAPED": ["0", "784.0", "True", "'784'"],
    "NB_CLASSES": ["1", "0", "10.0", "None"],
    "VALIDATION_SPLIT": ["1", "1.0", "-0.1", "True", "False", "None", "'0.2'", "float('nan')"],
    "HIDDEN_LAYERS": ["-1", "1.0", "True", "None"],
    "N_HIDDEN": ["0", "-1", "128.0", "True"],
    "NB_EPOCH": ["0", "-1", "20.0", "True", "'200'", "10**12"],
    "BATCH_SIZE": ["0", "-1", "128.0", "True", "None"],
    "OPTIMIZER": ["''", "None", "3", "['sgd']"],
    "LEARNING_RATE": ["0", "-0.01", "True", "float('nan')", "float('inf')", "10**400", "'0.01'"],
    "LOSS": ["''", "None", "3"],
    "METRICS": ["'accuracy'", "None", "[3]", "['']", "['accuracy'] * 2", "('accuracy',)"],
    "STEPS_PER_EXECUTION": ["0", "-1", "125.0", "True", "None"],
    "RESULTS_DIR": ["''", "None", "0"],
    "VERBOSE": ["3", "-1", "True", "'1'", "1.0"],
}


@pytest.mark.parametrize("at", range(8))
def test_all_faulty_constants_are_reported_at_once(tmp_path, at):
    constants = {name: values[at] for name, values in WRONG.items() if at < len(values)}
    folder = copy_program(tmp_path / "program")
    lines = "\n".join(f"{name} = {value}" for name, value in constants.items())
    (folder / "config.py").write_text((folder / "config.py").read_text() + lines)
    expected = [(f"{k} = {eval(v)!r}"[:60], "it must be") for k, v in constants.items()]
    fails_with(folder, *expected)


def test_every_constant_is_among_the_faulty_ones():
    assert set(WRONG) == set(train_mnist.ALLOWED)


def test_missing_and_unknown_constants(tmp_path):
    folder = copy_program(tmp_path / "program", NB_EPOCHS=5, Optimizer="adam", learning_rate=0.1)
    config = folder / "config.py"
    config.write_text(config.read_text().replace("BATCH_SIZE = 128", "BATCHSIZE = 128"))
    fails_with(
        folder,
        ("config.py: BATCH_SIZE is missing", "a whole number from 1"),
        ("config.py: BATCHSIZE is not a constant", "BATCH_SIZE?"),
        ("config.py: NB_EPOCHS is not a constant", "NB_EPOCH?"),
        ("config.py: Optimizer is not a constant", "OPTIMIZER?"),
        ("config.py: learning_rate is not a constant", "LEARNING_RATE?"),
    )


@pytest.mark.parametrize(
    "line, texts",
    [
        ("OPTIMIZER = 'sgd", ("config.py: SyntaxError", "line 1")),
        ("OPTIMIZER = sgd", ("config.py: NameError", "'sgd'")),
    ],
)
def test_config_that_is_not_python(tmp_path, line, texts):
    folder = copy_program(tmp_path / "program")
    (folder / "config.py").write_text(line + "\n")
    fails_with(folder, texts)


def test_config_that_is_not_there(tmp_path):
    folder = copy_program(tmp_path / "program")
    (folder / "config.py").unlink()
    fails_with(folder, ("config.py: ", "No module named 'config'"))


def test_arguments_are_refused(tmp_path):
    folder = copy_program(tmp_path / "program")
    fails_with(
        folder, ("takes no arguments", "'--epochs'", "config.py"), arguments=("--epochs", "5")
    )


def test_unknown_names_are_reported_at_once(tmp_path):
    names = {"OPTIMIZER": "sdg", "LOSS": "categorical_crossentropi"}
    metrics = ["accuracy", "acuracy", "f1_score", "recal"]
    fails_with(
        copy_program(tmp_path / "program", METRICS=metrics, **names),
        ("config.py: OPTIMIZER", "'sdg'"),
        ("config.py: LOSS", "'categorical_crossentropi'"),
        ("config.py: METRICS", "'acuracy'"),
        ("config.py: METRICS", "'f1_score'"),  # known, but a number for each class
        ("config.py: METRICS", "'recal'"),
    )


@pytest.mark.parametrize("backend", ["jaks", "no_such_backend"])
def test_unknown_backend(tmp_path, backend):
    folder = copy_program(tmp_path / "program")
    fails_with(folder, ("Keras cannot start", backend), KERAS_BACKEND=backend)


def without_labels(arrays):
    del arrays["y_test"]


def pickled(arrays):
    arrays["y_train"] = arrays["y_train"].astype(object)


def floats(arrays):
    arrays["x_test"] = arrays["x_test"] / 255


def fewer_labels(arrays):
    arrays["y_train"] = arrays["y_train"][:-1]


def one_hot(arrays):
    arrays["y_test"] = np.eye(10, dtype="uint8")[arrays["y_test"]]


def no_images(arrays):
    arrays["x_test"], arrays["y_test"] = arrays["x_test"][:0], arrays["y_test"][:0]


def smaller_images(arrays):
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key][:, :14]


def labels_from_1(arrays):
    arrays["y_train"] = arrays["y_train"] + 1


def negative_labels(arrays):
    arrays["y_test"] = arrays["y_test"].astype(int) - 1


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (without_labels, [("y_test is not a file in the archive",)]),
        (pickled, [("Object arrays cannot be loaded",)]),
        (floats, [("x_test", "float64", "uint8")]),
        (fewer_labels, [("20 images", "19 labels")]),
        (one_hot, [("y_test", "(10, 10)")]),
        (no_images, [("x_test is empty",)]),
        (smaller_images, [("x_train", "392", "784"), ("x_test", "392", "RESHAPED = 784")]),
        (labels_from_1, [("y_train", "from 1 to 10", "0 to 9")]),
        (negative_labels, [("y_test", "from -1 to 8", "0 to 9")]),
    ],
)
def test_data_of_another_kind(tmp_path, spoil, expected):
    arrays = digits()
    spoil(arrays)
    np.savez(tmp_path / "digits.npz", **arrays)
    folder = copy_program(tmp_path / "program", DATA_PATH="../digits.npz")
    fails_with(folder, *(("digits.npz", *texts) for texts in expected))


def test_own_digits_of_the_right_kind_are_fine(tmp_path):
    save_digits(tmp_path / "digits.npz")
    constants = {"DATA_PATH": "../digits.npz", "NB_EPOCH": 1, "VERBOSE": 0}
    process = run(copy_program(tmp_path / "program", **constants))
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("20 train samples\n10 test samples\n")


@pytest.mark.parametrize(
    "content, texts",
    [
        (None, ("No such file",)),
        (b"", ("not a zip file",)),
        (b"5, 0, 4, 1, 9\n" * 100, ("not a zip file",)),
        ("truncated", ("not a zip file",)),
        ("damaged", ("BadZipFile", "x_train")),
    ],
)
def test_file_that_cannot_be_read(tmp_path, content, texts):
    path = tmp_path / "digits.npz"
    whole = (ROOT / "data" / "mnist.npz").read_bytes()
    if content == "truncated":
        content = whole[: len(whole) // 2]
    elif content == "damaged":
        content = whole[:5000000] + b"\0" * 1000 + whole[5001000:]
    if content is not None:
        path.write_bytes(content)
    folder = copy_program(tmp_path / "program", DATA_PATH=str(path))
    fails_with(folder, (f"{path} cannot be read as .npz: ", *texts, "DATA_PATH"))


@pytest.mark.parametrize("split, use", [(0.99, "train"), (1e-17, "validate")])
def test_split_that_leaves_no_sample(tmp_path, split, use):
    save_digits(tmp_path / "digits.npz", n_train=20)
    folder = copy_program(tmp_path / "program", DATA_PATH="../digits.npz", VALIDATION_SPLIT=split)
    texts = ("config.py: VALIDATION_SPLIT", repr(split), "20 samples", f"none to {use} on")
    fails_with(folder, texts)


def test_download_without_network(tmp_path):
    folder = copy_program(tmp_path / "program", DATA_PATH=None)
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    expected = ("config.py: DATA_PATH = None", "download failed", "refused", '"data/mnist.npz"')
    fails_with(folder, expected, KERAS_HOME=str(tmp_path / "keras"), **proxies)


def test_network_larger_than_the_memory(tmp_path):
    folder = copy_program(tmp_path / "program", HIDDEN_LAYERS=1, N_HIDDEN=2**31 - 1)
    fails_with(folder, ("ResourceExhaustedError: ", "2147483647"))
