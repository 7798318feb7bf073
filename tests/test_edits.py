"""Edited scripts train, print and keep their own names, and have the pictures they can have."""

import re

import command
import pytest
from command import own_lines, read_csv, read_run, run, small_program

METRICS = "metrics=config.METRICS"
NO_PIXELS = "no weights.png: the first layer has no weight for each pixel"
NO_CLASSES = "the output is not one of 10 classes"
HEADS = """    return model


def build_two(model):
    heads = {name: Dense(10, "softmax", name=name)(model.outputs[0]) for name in "ab"}
    return keras.Model(model.inputs, heads)
"""

# the edits, old text and new; the names that are printed besides the score; the warnings
EDITS = {
    "a metric object": (
        {METRICS: "metrics=[keras.metrics.TopKCategoricalAccuracy(k=3)]"},
        ["top_k_categorical_accuracy"],
        [],
    ),
    "an array for a metric": ({METRICS: "metrics=[keras.metrics.F1Score()]"}, ["f1_score"], []),
    "no metric": ({METRICS: "metrics=None"}, [], []),
    "integer labels": (
        {
            "Y_train = keras.utils.to_categorical(y_train, config.NB_CLASSES)": "Y_train = y_train",
            "Y_test = keras.utils.to_categorical(y_test, config.NB_CLASSES)": "Y_test = y_test",
            "loss=config.LOSS": "loss='sparse_categorical_crossentropy'",
        },
        ["accuracy"],
        [],
    ),
    "a convolution": (
        {
            "X_train.reshape(len(X_train), config.RESHAPED)": "X_train.reshape(-1, 28, 28, 1)",
            "X_test.reshape(len(X_test), config.RESHAPED)": "X_test.reshape(-1, 28, 28, 1)",
            "keras.Input(shape=(config.RESHAPED,))": "keras.Input(shape=(28, 28, 1))",
            "    # 10 outputs": "    model.add(keras.layers.Conv2D(4, 5))\n"
            "    model.add(keras.layers.Flatten())",
        },
        ["accuracy"],
        [NO_PIXELS],
    ),
    "two outputs": (
        {
            "model = build_model()": "model = build_two(build_model())",
            "    return model\n": HEADS,
            METRICS: "metrics={'a': ['accuracy'], 'b': ['precision']}",
            "    model.summary()": "    Y_train = {'a': Y_train, 'b': Y_train}\n"
            "    Y_test = {'a': Y_test, 'b': Y_test}",
        },
        ["a_accuracy", "a_loss", "b_loss", "b_precision"],
        [f"no confusion.png: {NO_CLASSES}", f"no mistakes.png: {NO_CLASSES}"],
    ),
}


@pytest.mark.parametrize("edits, names, warnings", EDITS.values(), ids=EDITS)
def test_edited_script(tmp_path, edits, names, warnings):
    program = small_program(tmp_path)
    for old, new in edits.items():
        command.edit_script(program, old, new)
    process = run(program)
    for warning, line in zip(warnings, own_lines(process), strict=True):
        assert line.endswith(warning)
    assert re.findall(r"^Test (\w+): ", process.stdout, re.M) == ["score", *names]
    folder, record = read_run(program)
    assert record["status"] == "finished"
    assert {f"test_{name}" for name in ("score", *names)} <= set(record)
    missing = {re.search(r"\w+\.png", warning)[0] for warning in warnings}
    command.check_pictures(folder, [name for name in command.PICTURES if name not in missing])
    (row,) = read_csv(program / "results" / "runs.csv")
    assert all(row[f"test_{name}"] and row[f"val_{name}"] for name in names)


def test_training_without_an_epoch(tmp_path):
    program = small_program(tmp_path)
    command.add_callback(program, "keras.callbacks.BackupAndRestore('b', delete_checkpoint=False)")
    first = run(program).stdout.splitlines()[-2:]
    second = run(program)
    assert second.stdout.splitlines()[-2:] == first and "Epoch" not in second.stdout
    (line,) = own_lines(second)
    assert line.endswith("no curves.png: no epoch was run")
