"""The numbers are those of plain Keras to the bit, again and again, for any steps per call."""

import ast
import json
import sys

import command
import keras
import numpy as np
import pytest
from command import ROOT, copy_program, read_csv, read_run, run
from listing import PROGRAMS

import config
import train_mnist

REFERENCE = ROOT / "results" / "reference"

LISTING = """
import json, sys
import listing
history, weights, score = listing.train(int(sys.argv[1]), 2)
print(json.dumps([history, [w.tolist() for w in weights], score]))
"""


def two_epochs(tmp_path, **constants):
    """Copy the program for two epochs on all of MNIST."""
    return copy_program(tmp_path / "program", NB_EPOCH=2, VERBOSE=0, **constants)


@pytest.mark.parametrize("program", PROGRAMS)
def test_chapter_to_the_bit(tmp_path, program):
    hidden_layers, dropout, optimizer = PROGRAMS[program]
    constants = {"HIDDEN_LAYERS": hidden_layers, "DROPOUT": dropout, "OPTIMIZER": optimizer}
    listing = [sys.executable, "-c", LISTING, str(program)]
    output = run(ROOT / "tests", command=listing).stdout
    expected, expected_weights, score = json.loads(output.splitlines()[-1])
    copy = two_epochs(tmp_path, **constants)
    run(copy)
    folder, record = read_run(copy)
    history = read_csv(folder / "history.csv")
    for name in ("accuracy", "loss", "val_accuracy", "val_loss"):
        assert [float(row[name]) for row in history] == expected[name]
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    for own, other in zip(weights, expected_weights, strict=True):
        assert np.array_equal(own, np.array(other, "float32"))
    assert [record["test_score"], record["test_accuracy"]] == score


def train(program, **environment):
    """Run the program; return the bytes of history.csv and the weights."""
    run(program, **environment)
    folder = read_run(program)[0]
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    return (folder / "history.csv").read_bytes(), [w.tobytes() for w in weights]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train for two epochs; return the history and the weights."""
    return train(two_epochs(tmp_path_factory.mktemp("trained")))


@pytest.mark.parametrize("steps", [1, 7, 2**31 - 1])
def test_same_numbers_for_any_steps_per_execution(tmp_path, trained, steps):
    assert train(two_epochs(tmp_path, STEPS_PER_EXECUTION=steps)) == trained


def test_same_numbers_whatever_keras_json_says(tmp_path, trained):
    (tmp_path / "keras.json").write_text('{"floatx": "float16", "epsilon": 0.01}')
    assert train(two_epochs(tmp_path), KERAS_HOME=str(tmp_path)) == trained


def worst_difference(program):
    """Run the program; return how far its history is from the reference's first epochs."""
    run(program)
    history = read_csv(read_run(program)[0] / "history.csv")
    reference = read_csv(REFERENCE / "history.csv")
    return max(
        abs(float(row[key]) - float(expected[key]))
        for row, expected in zip(history, reference, strict=False)
        for key in ("accuracy", "loss", "val_accuracy", "val_loss")
    )


# The sum of 784 products of float32 in another order moves the loss by some 1e-6 and, at most, a
# few of 12,000 images to another class. What is wrong in the training moves them far more.
TOLERANCE = 0.0005


def test_history_is_that_of_the_reference_and_not_with_another_rate(tmp_path):
    for name, rate in (("same", None), ("other", 0.0101)):
        (tmp_path / name).mkdir()
        difference = worst_difference(two_epochs(tmp_path / name, LEARNING_RATE=rate))
        assert difference < TOLERANCE if rate is None else difference > 2 * TOLERANCE


def test_reference_is_a_run_of_these_constants():
    record = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    assert command.file_names(REFERENCE) == sorted([*command.FILES, "README.md"])
    assert record["status"] == "finished" and record["epochs"] == config.NB_EPOCH
    assert record["constants"] == {name: getattr(config, name) for name in train_mnist.ALLOWED}
    shown = [record[name] for name in ("accuracy", "val_accuracy", "test_accuracy")]
    assert shown == pytest.approx([0.9236, 0.9227, 0.9222], abs=0.002)  # those published
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"{figure:.4f}" in readme for figure in (*shown, record["test_score"]))


def test_script_keeps_its_shape():
    text = (ROOT / "train_mnist.py").read_text("utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert functions[0].name == "main" and functions[0].lineno <= 48
    for function in functions:
        assert not any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(function))
    assert len(text.splitlines()) <= 430
