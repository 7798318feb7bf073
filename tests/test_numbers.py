"""The numbers are those of plain Keras to the bit, again and again, for any steps per call."""

import json
import sys

import command
import keras
import numpy as np
import pytest
from command import REFERENCE, ROOT, SUPPLIED, copy_program, read_csv, read_run, run
from listing import PROGRAMS

LISTING = """
import json, sys
import listing
history, weights, score = listing.train(int(sys.argv[1]), 2)
print(json.dumps([history, [w.tolist() for w in weights], score]))
"""


def two_epochs(tmp_path, **constants):
    """Copy the program for two epochs on all of MNIST."""
    return copy_program(tmp_path / "program", NB_EPOCH=2, VERBOSE=0, **constants)


# The sum of 784 products of float32 in another order moves the loss by some 1e-6 and, at most, a
# few of 12,000 images to another class. What is wrong in the training moves them far more.
TOLERANCE = 0.0005


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
    if program == 1:
        for row, reference in zip(history, read_csv(REFERENCE / "history.csv"), strict=False):
            for name in expected:
                assert abs(float(row[name]) - float(reference[name])) < TOLERANCE


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


@pytest.mark.parametrize("steps", [1, 7, 10**9])
def test_same_numbers_for_any_steps_per_execution(tmp_path, trained, steps):
    assert train(two_epochs(tmp_path, STEPS_PER_EXECUTION=steps)) == trained


def test_reference_is_a_run_of_these_constants():
    record = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    assert command.file_names(REFERENCE) == sorted([*command.FILES, "README.md"])
    assert record["status"] == "finished" and record["epochs"] == SUPPLIED["NB_EPOCH"]
    shown = [record[name] for name in ("accuracy", "val_accuracy", "test_accuracy")]
    assert shown == pytest.approx([0.9236, 0.9227, 0.9222], abs=0.002)  # those published
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"{figure:.4f}" in readme for figure in (*shown, record["test_score"]))
