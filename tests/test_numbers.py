"""The numbers are those of plain Keras to the bit, for any steps per call and any threads."""

import json
import sys

import command
import keras
import numpy as np
import pytest
from command import REFERENCE, ROOT, SUPPLIED, copy_program, read_csv, read_runs, run
from listing import PROGRAMS

LISTING = """
import json, sys
import listing
history, weights, score = listing.train(int(sys.argv[1]), 2)
print(json.dumps([history, [w.tolist() for w in weights], score]))
"""
TOLERANCE = 0.0005  # another processor may add up in another order; a fault moves figures far more


@pytest.mark.parametrize(
    "program, steps, threads", [(1, 125, 1), (1, 10**9, 1), (2, 7, None), (3, 1, 1), (4, 125, 2)]
)
def test_chapter_to_the_bit(tmp_path, program, steps, threads):
    hidden_layers, dropout, optimizer = PROGRAMS[program]
    listing = [sys.executable, "-c", LISTING, str(program)]
    output = run(ROOT / "tests", command=listing).stdout
    expected, expected_weights, score = json.loads(output.splitlines()[-1])
    network = {"HIDDEN_LAYERS": hidden_layers, "DROPOUT": dropout, "OPTIMIZER": optimizer}
    speed = {"STEPS_PER_EXECUTION": steps, "THREADS": threads, "VERBOSE": 0}
    copy = copy_program(tmp_path / "program", NB_EPOCH=2, **network, **speed)
    run(copy)
    folder, record = read_runs(copy)[-1]
    history = read_csv(folder / "history.csv")
    for name in ("accuracy", "loss", "val_accuracy", "val_loss"):
        assert [float(row[name]) for row in history] == expected[name]
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    for own, other in zip(weights, expected_weights, strict=True):
        assert np.array_equal(own, np.array(other, "float32"))
    assert [record["test_score"], record["test_accuracy"]] == score
    if program == 1:
        for row, reference in zip(history, read_csv(REFERENCE / "history.csv")[:2], strict=True):
            for name in expected:
                assert abs(float(row[name]) - float(reference[name])) < TOLERANCE


def test_reference_is_a_run_of_these_constants():
    record = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    assert set(command.file_names(REFERENCE)) >= {*command.FILES, "README.md"}
    assert record["status"] == "finished" and record["epochs"] == SUPPLIED["NB_EPOCH"]
    shown = [record[name] for name in ("accuracy", "val_accuracy", "test_accuracy")]
    assert shown == pytest.approx([0.9236, 0.9227, 0.9222], abs=0.002)  # those published
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"{figure:.4f}" in readme for figure in (*shown, record["test_score"]))
