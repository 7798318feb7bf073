"""The numbers are those of plain Keras to the bit, for any STEPS_PER_EXECUTION."""

import json

import command
import keras
import numpy as np
import pytest
from command import REFERENCE, ROOT, SUPPLIED, copy_program, read_csv, read_run, run
from listing import PROGRAMS, train

TOLERANCE = 0.0005  # another processor may add up in another order; a fault moves figures far more
CURVES = ["accuracy", "loss", "val_accuracy", "val_loss"]


@pytest.mark.parametrize("number, steps", [(1, 125), (2, 7), (3, 1), (4, 10**9)])
def test_a_program_of_the_chapter_equals_plain_keras_to_the_bit(tmp_path, number, steps):
    hidden_layers, dropout, optimizer = PROGRAMS[number]
    program = copy_program(
        tmp_path / "program",
        HIDDEN_LAYERS=hidden_layers,
        DROPOUT=dropout,
        OPTIMIZER=optimizer,
        STEPS_PER_EXECUTION=steps,
        NB_EPOCH=2,
    )
    run(program)
    folder, record = read_run(program / "results")
    history = read_csv(folder / "history.csv")
    model = keras.saving.load_model(folder / "model.keras")

    expected_history, expected_weights, expected_score = train(number, epochs=2)
    for name in CURVES:
        assert [float(row[name]) for row in history] == expected_history[name]
    for weights, expected in zip(model.get_weights(), expected_weights, strict=True):
        assert np.array_equal(weights, expected)
    assert [record["test_loss"], record["test_accuracy"]] == expected_score


def test_reference_begins_as_plain_keras_does_on_this_processor():
    history, _, _ = train(1, epochs=2)
    reference = read_csv(REFERENCE / "history.csv")[:2]
    for name in CURVES:
        expected = [float(row[name]) for row in reference]
        assert history[name] == pytest.approx(expected, abs=TOLERANCE)


def test_reference_is_a_whole_run():
    record = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    assert set(command.file_names(REFERENCE)) >= set(command.FILES)
    assert record["status"] == "finished"
    assert record["epochs"] == SUPPLIED["NB_EPOCH"] == 200


def test_reference_reaches_the_published_figures():
    record = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    assert record["accuracy"] == pytest.approx(0.9236, abs=0.002)
    assert record["val_accuracy"] == pytest.approx(0.9227, abs=0.002)
    assert record["test_accuracy"] == pytest.approx(0.9222, abs=0.002)


def test_readme_shows_the_figures_of_the_reference():
    record = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in ("accuracy", "val_accuracy", "test_accuracy", "test_loss"):
        assert f"{record[name]:.4f}" in readme
