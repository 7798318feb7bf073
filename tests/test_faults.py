"""No fault loses a finished epoch: Ctrl-C, divergence, errors, sudden death, full disks."""

import shutil
import signal
import sys
import time

import command
import keras
import numpy as np
import pytest
from command import CTRL_C, own_lines, posix, read_csv, read_runs, run, small_program, start


def rows_so_far(program):
    """Return how many lines history.csv has, 0 before it is there."""
    paths = (program / "results").glob("*/history.csv")
    return sum(len(path.read_text().splitlines()) for path in paths)


def check_interrupted(program):
    """Check that record, score, history and model are those of one epoch; return how many count."""
    folder, record = read_runs(program)[-1]
    assert command.file_names(folder) == command.FILES
    command.check_pictures(folder)
    assert record["status"] == "interrupted"
    row = read_csv(folder / "history.csv")[record["epochs"] - 1]
    assert float(row["val_loss"]) == record["val_loss"]
    score = [record["test_score"], record["test_accuracy"]]
    assert command.evaluate(folder / "model.keras") == pytest.approx(score, rel=1e-5)
    model = keras.saving.load_model(folder / "model.keras")
    assert int(model.optimizer.iterations) == 4 * record["epochs"]  # 400 samples by 128
    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["status"] == "interrupted" and float(row["test_score"]) == score[0]
    return record["epochs"]


@posix
def test_ctrl_c_goes_back_to_the_last_finished_epoch(tmp_path):
    program = small_program(tmp_path, NB_EPOCH=100000)
    process = start(program)
    command.wait_until(lambda: rows_so_far(program) >= 3, process)
    process.send_signal(signal.SIGINT)
    ended = command.finish(process, exits=1)
    assert own_lines(ended) == []
    epochs = check_interrupted(program)
    assert f"\nInterrupted: back to the end of epoch {epochs}\n" in ended.stdout


def callback(when, code):
    """Return a callback that runs code when Keras calls it with n, as it stands in the script."""
    return f"keras.callbacks.LambdaCallback(on_{when}=lambda n=0, logs=None: {code})"


FIT, SAVE, EVALUATE = "callbacks=[", "                save(new)\n", "evaluate(X_test, Y_test, "


def test_ctrl_c_while_a_model_is_saved(tmp_path):
    """Its epoch does not count, and no half file is left."""
    program = small_program(tmp_path, NB_EPOCH=9)
    third = "self.latest['epochs'] == 3 and self.record['status'] == 'unfinished'"
    press = f"                new.suffix == '.keras' and {third} and {CTRL_C}\n"
    command.edit_script(program, SAVE, SAVE + press)
    run(program, exits=1)
    assert check_interrupted(program) == 2


BEGIN = f"{FIT}{callback('epoch_begin', CTRL_C)}, "
SCORING = f"{EVALUATE}callbacks=[{callback('test_begin', CTRL_C)}], "
RAISES = f"{FIT}{callback('epoch_end', 'n == 1 and [][n]')}, "
# What is edited, how the run ends, after how many epochs, and the last line of standard error.
ENDS = {
    "Ctrl-C in the first epoch": (FIT, BEGIN, "interrupted", 0, "Interrupted"),
    "Ctrl-C in evaluate": (EVALUATE, SCORING, "interrupted", 2, "Interrupted"),
    "an error in a callback": (FIT, RAISES, "failed", 1, "IndexError: list index out of range"),
    "an error after fit": ("(model, score)", "(model, scor)", "failed", 2, "NameError: name 'scor"),
}


@pytest.mark.parametrize("old, new, status, epochs, line", ENDS.values(), ids=ENDS)
def test_every_end_is_told(tmp_path, old, new, status, epochs, line):
    program = small_program(tmp_path)
    command.edit_script(program, old, new)
    process = run(program, exits=1)
    lines = own_lines(process)
    assert ('train_mnist.py", line ' in process.stderr) == (status == "failed")
    assert lines[-1].startswith(line) and (len(lines) == 1) == (status == "interrupted")
    _, record = read_runs(program)[-1]
    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["status"] == record["status"] == status
    assert row["epochs"] == str(epochs) == str(record["epochs"])
    assert record["error"].startswith("KeyboardInterrupt" if status == "interrupted" else line)


@pytest.mark.parametrize("restore", [False, True])
def test_divergence_stops_the_run(tmp_path, restore):
    """Also where a callback brings the finite weights of an earlier epoch back."""
    program = small_program(tmp_path, NB_EPOCH=1000, HIDDEN_LAYERS=3, LEARNING_RATE=10.0)
    if restore:
        stopping = 'keras.callbacks.EarlyStopping("loss", restore_best_weights=True)'
        command.add_callback(program, stopping)
    (line,) = own_lines(run(program, exits=1))
    assert line.endswith("The loss diverged at a learning rate of 10: try a smaller one")
    folder, record = read_runs(program)[-1]
    assert command.file_names(folder) == ["history.csv", "model.keras", "run.json"]
    assert record["status"] == "diverged" and "test_score" not in record
    assert record["epochs"] == 1 == len(read_csv(folder / "history.csv")) - 1
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    assert all(np.isfinite(each).all() for each in weights)  # those of the first epoch
    assert read_csv(program / "results" / "runs.csv")[0]["status"] == "diverged"


@posix
def test_killed_runs_keep_every_finished_epoch(tmp_path):
    """Kill runs of very short epochs at random moments, many of them amid the writing."""
    moments = np.random.default_rng(1671)
    program = small_program(tmp_path, NB_EPOCH=100000)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        rows = moments.integers(2, 40)
        process = start(program)
        command.wait_until(lambda rows=rows: rows_so_far(program) > rows, process)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(number)
        process.communicate()
        folder, record = read_runs(program)[-1]
        history = read_csv(folder / "history.csv")
        assert [row["epoch"] for row in history] == [str(epoch) for epoch in range(len(history))]
        assert record["status"] == "unfinished" and record["seconds"] > 0
        assert record["epochs"] in (len(history), len(history) - 1)
        assert record["val_loss"] == float(history[record["epochs"] - 1]["val_loss"])
        assert read_csv(program / "results" / "runs.csv")[0]["status"] == "unfinished"
        assert keras.saving.load_model(folder / "model.keras").count_params() == 7850
        shutil.rmtree(folder)


@posix
def test_disk_that_is_full(tmp_path):
    """There is room for run.json, runs.csv and history.csv, but not for more."""
    limited = f"ulimit -f 20; exec '{sys.executable}' train_mnist.py"  # 20 blocks of 512 bytes
    process = run(small_program(tmp_path), command=["sh", "-c", limited], exits=1)
    folder, record = read_runs(tmp_path / "program")[-1]
    for name, line in zip(["model.keras"] * 3 + command.PICTURES, own_lines(process), strict=True):
        assert f"{folder / name} cannot be written: File too large" in line
    assert process.stdout.endswith(f"Test accuracy: {record['test_accuracy']:.4f}\n")
    assert record["status"] == "finished" and record["epochs"] == 2 and "val_loss" in record
    assert list(record["not_written"]) == ["model.keras", *command.PICTURES]
    assert command.file_names(folder) == ["history.csv", "run.json"]
