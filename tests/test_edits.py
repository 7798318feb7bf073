"""Edited scripts train, print and keep their own names, and have the pictures they can have."""

import re

import command
import pytest
from command import own_lines, read_csv, read_run, run, small_program

# What stands in place of two lines of main, the names of the figures besides the score, and the
# pictures that cannot be drawn.
BUILD, LOSS = "    model = build_model()\n", "loss=config.LOSS"
METRICS = "metrics=config.METRICS"
CONVOLUTION = """    X_train, X_test = X_train.reshape(-1, 28, 28, 1), X_test.reshape(-1, 28, 28, 1)
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(8, 5)])
    model.add(keras.layers.Flatten())
    model.add(Dense(10, "softmax"))
"""
HEADS = """    model = build_model()
    heads = {name: Dense(10, "softmax", name=name)(model.outputs[0]) for name in "ab"}
    model = keras.Model(model.inputs, heads)
    Y_train, Y_test = [{"a": Y, "b": Y} for Y in (Y_train, Y_test)]
"""
LABELS = "    Y_train, Y_test = y_train, y_test\n" + BUILD
EDITS = [
    ({METRICS: "metrics=[keras.metrics.TopKCategoricalAccuracy(3, name='top')]"}, ["top"], []),
    ({METRICS: "metrics=[keras.metrics.F1Score()]"}, ["f1_score"], []),
    ({METRICS: "metrics=None"}, [], []),
    ({BUILD: LABELS, LOSS: "loss='sparse_categorical_crossentropy'"}, ["accuracy"], []),
    ({BUILD: CONVOLUTION}, ["accuracy"], []),
    (
        {BUILD: HEADS, METRICS: "metrics={'a': ['accuracy'], 'b': ['precision']}"},
        ["a_accuracy", "a_loss", "b_loss", "b_precision"],
        ["confusion.png", "mistakes.png"],
    ),
]


@pytest.mark.parametrize("edits, names, missing", EDITS)
def test_edited_script(tmp_path, edits, names, missing):
    program = small_program(tmp_path)
    for old, new in edits.items():
        command.edit_script(program, old, new)
    process = run(program)
    told = [line for line in own_lines(process) if line.startswith("ERROR:root:")]
    assert told == [f"ERROR:root:{name} cannot be drawn" for name in missing]
    assert bool(missing) == bool(own_lines(process)) == ("in draw_confusion" in process.stderr)
    assert re.findall(r"^Test (\w+): ", process.stdout, re.M) == ["score", *names]
    folder, record = read_run(program)
    assert record["status"] == "finished"
    assert {f"test_{name}" for name in ("score", *names)} <= set(record)
    command.check_pictures(folder, sorted(set(command.PICTURES) - set(missing)))
    (row,) = read_csv(program / "results" / "runs.csv")
    assert all(row[f"test_{name}"] and row[f"val_{name}"] for name in names)


def test_training_without_an_epoch(tmp_path):
    program = small_program(tmp_path)
    command.add_callback(program, "keras.callbacks.BackupAndRestore('b', delete_checkpoint=False)")
    first = run(program).stdout.splitlines()[-2:]
    second = run(program)
    assert second.stdout.splitlines()[-2:] == first and "Epoch" not in second.stdout
    assert own_lines(second)[0] == "ERROR:root:curves.png cannot be drawn"
    assert second.stderr.count("cannot be drawn") == 1
