"""The same constants give the same numbers: again, under load, and with other steps per call."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from command import ROOT, copy_program, edit_config, run
from test_results import read_csv, run_folders

import config
import train_mnist

REFERENCE = ROOT / "results" / "reference"


def train(program, **constants):
    """Run the program with these constants; return the bytes of history.csv and the weights."""
    edit_config(program, VERBOSE=0, **constants)
    process = run(program)
    assert process.returncode == 0, process.stderr
    (folder,) = run_folders(program)
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    history = (folder / "history.csv").read_bytes()
    shutil.rmtree(folder)
    return history, weights


def test_same_numbers_again_under_load_and_for_any_steps_per_execution(tmp_path):
    program = copy_program(tmp_path / "program", NB_EPOCH=2)
    history, weights = train(program)
    assert history.count(b"\n") == 3
    again = {}
    burn = [sys.executable, "-c", "while True: pass"]
    load = [subprocess.Popen(burn) for _ in range(2 * os.cpu_count())]
    try:
        again["under load"] = train(program)
    finally:
        for process in load:
            process.kill()
            process.wait()
    for steps in (1, 7, 2**31 - 1):
        again[steps] = train(program, STEPS_PER_EXECUTION=steps)
    for which, (other_history, other_weights) in again.items():
        assert other_history == history, which
        for one, other in zip(weights, other_weights, strict=True):
            assert np.array_equal(one, other), which


def worst_difference(program):
    """Train for two epochs; return how far its history is from the reference's first epochs."""
    edit_config(program, NB_EPOCH=2, VERBOSE=0)
    process = run(program)
    assert process.returncode == 0, process.stderr
    (folder,) = run_folders(program)
    history = read_csv(folder / "history.csv")
    reference = read_csv(REFERENCE / "history.csv")
    return max(
        abs(float(row[key]) - float(expected[key]))
        for row, expected in zip(history, reference, strict=False)
        for key in ("accuracy", "loss", "val_accuracy", "val_loss")
    )


# The sum of 784 products of float32 in another order moves the loss by some 1e-6 and, at most, a
# few of 12,000 images to another class. What is wrong in the training moves them a hundred times
# as much.
TOLERANCE = 0.0005


def test_history_is_that_of_the_reference(tmp_path):
    assert worst_difference(copy_program(tmp_path / "program")) < TOLERANCE


@pytest.mark.parametrize(
    "wrong",
    [{"SEED": 1672}, {"VALIDATION_SPLIT": 0.21}, {"LEARNING_RATE": 0.0101}, {"BATCH_SIZE": 127}],
)
def test_other_constants_are_far_from_the_reference(tmp_path, wrong):
    assert worst_difference(copy_program(tmp_path / "program", **wrong)) > 2 * TOLERANCE


def test_missing_scaling_is_far_from_the_reference(tmp_path):
    program = copy_program(tmp_path / "program")
    script = (program / "train_mnist.py").read_text()
    assert script.count("    X_train /= 255\n") == 1
    (program / "train_mnist.py").write_text(script.replace("    X_train /= 255\n", ""))
    assert worst_difference(program) > 2 * TOLERANCE


def test_reference_is_a_run_of_these_constants():
    record = json.loads((REFERENCE / "run.json").read_text())
    assert record["status"] == "finished" and record["epochs"] == config.NB_EPOCH
    assert record["constants"] == {name: getattr(config, name) for name in train_mnist.ALLOWED}
    figures = read_csv(REFERENCE / "history.csv")[-1]
    shown = [float(figures["accuracy"]), float(figures["val_accuracy"]), record["test"]["accuracy"]]
    assert shown == pytest.approx([0.9236, 0.9227, 0.9222], abs=0.002)  # those published
    readme = (ROOT / "README.md").read_text()
    for figure in (*shown, record["test"]["score"]):
        assert f"{figure:.4f}" in readme
