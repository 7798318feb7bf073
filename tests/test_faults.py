"""No fault loses a finished epoch: signals, divergence, sudden death, full disks, no rights."""

import json
import os
import resource
import shutil
import signal
import time

import keras
import numpy as np
import pytest
from command import ROOT, copy_program, edit_config, finish, own_lines, run, start, wait_until
from test_results import FILES, check_pictures, read_csv, run_folders, small_program


def rows_so_far(program):
    """Return how many lines history.csv has, 0 before it is there."""
    paths = list((program / "results").glob("*/history.csv"))
    return len(paths[0].read_text().splitlines()) if paths else 0


def evaluate(path):
    """Return the loss and accuracy on MNIST's test set of a saved model."""
    with np.load(ROOT / "data" / "mnist.npz") as arrays:
        X_test = arrays["x_test"].reshape(-1, 784) / np.float32(255)
        Y_test = keras.utils.to_categorical(arrays["y_test"], 10)
    return keras.saving.load_model(path).evaluate(X_test, Y_test, verbose=0)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_with_all_its_results(tmp_path, number, code):
    program = copy_program(tmp_path / "program", NB_EPOCH=1000, VERBOSE=2)
    process = start(program)
    wait_until(lambda: rows_so_far(program) >= 3, process)
    time.sleep(0.1)
    process.send_signal(number)
    ended = finish(process)
    assert ended.returncode == code, ended.stderr
    assert "Stopping" in ended.stderr and "Traceback" not in ended.stderr
    (folder,) = run_folders(program)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    check_pictures(folder)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert 2 <= record["epochs"] == len(read_csv(folder / "history.csv")) < 1000
    # score, history and model are those of the same epoch
    loss, accuracy = evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test"]["score"], rel=1e-5)
    assert ended.stdout.splitlines()[-1] == f"Test accuracy: {accuracy:.4f}"
    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["status"] == "interrupted" and float(row["test_score"]) == record["test"]["score"]


@pytest.fixture
def long_epoch(tmp_path):
    """Start a run of very many steps an epoch; give its program and the process, in its steps."""
    program = copy_program(tmp_path / "program", BATCH_SIZE=1, VALIDATION_SPLIT=0.05)
    process = start(program)
    # the loss is first shown in Keras's progress bar
    seen = ""
    while "loss:" not in seen:
        seen += process.stdout.read(1)
        assert process.poll() is None, process.communicate()
    return program, process


def test_signal_in_the_first_epoch(long_epoch):
    program, process = long_epoch
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.returncode == 130, ended.stderr
    (folder,) = run_folders(program)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "interrupted" and record["epochs"] == 1
    (row,) = read_csv(folder / "history.csv")  # of the part of the epoch that there was
    assert float(row["accuracy"]) > 0.3
    loss, _ = evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test"]["score"], rel=1e-5)
    assert f"Test score: {loss:.4f}\n" in ended.stdout


def test_second_signal_ends_at_once(long_epoch):
    program, process = long_epoch
    process.send_signal(signal.SIGINT)
    while "Stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.returncode == -signal.SIGTERM
    assert "Test score" not in ended.stdout


@pytest.mark.parametrize(
    "constants, epoch",
    [
        ({"HIDDEN_LAYERS": 3, "LEARNING_RATE": 10.0}, 2),
        ({"HIDDEN_LAYERS": 1, "LEARNING_RATE": 1e6}, 1),  # seen in the validation
        ({"HIDDEN_LAYERS": 1, "LEARNING_RATE": 1e30, "BATCH_SIZE": 500, "NB_EPOCH": 1}, 1),
    ],
)
def test_divergence_stops_the_run(tmp_path, constants, epoch):
    program = small_program(tmp_path, **{"NB_EPOCH": 1000, **constants})
    process = run(program)
    assert process.returncode == 1
    (line,) = own_lines(process.stderr)
    assert f"NaN or infinite in epoch {epoch}:" in line and "smaller LEARNING_RATE" in line
    (folder,) = run_folders(program)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "diverged" and "test" not in record
    assert record["epochs"] == len(read_csv(folder / "history.csv"))
    if epoch == 2:  # the model is that of epoch 1
        weights = keras.saving.load_model(folder / "model.keras").get_weights()
        assert all(np.isfinite(each).all() for each in weights)
        assert record["epochs"] == 1 and (folder / "curves.png").exists()
    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["status"] == "diverged"


def test_killed_runs_keep_every_finished_epoch(tmp_path):
    """Kill runs of very short epochs at random moments, many of them amid the writing."""
    moments = np.random.default_rng(1671)
    program = small_program(tmp_path, NB_EPOCH=100000)
    for _ in range(8):
        rows = moments.integers(0, 40)
        process = start(program)
        wait_until(lambda rows=rows: rows_so_far(program) > rows, process)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        (folder,) = run_folders(program)
        assert (folder / "history.csv").read_text().endswith("\n")
        history = read_csv(folder / "history.csv")
        assert [row["epoch"] for row in history] == [str(epoch) for epoch in range(len(history))]
        assert all(value for row in history for value in row.values())
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == "running"
        assert record["epochs"] <= len(history) <= record["epochs"] + 1
        if (folder / "model.keras").exists():
            assert keras.saving.load_model(folder / "model.keras").count_params() == 7850
        else:
            assert len(history) <= 1
        shutil.rmtree(folder)


def test_failure_in_training_keeps_every_finished_epoch(tmp_path):
    """Nobody reads the console any more: Keras fails as it writes there."""
    program = small_program(tmp_path, NB_EPOCH=1000, VERBOSE=2)
    process = start(program)
    while "Epoch 5/" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    process.stdout = None
    ended = finish(process)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr and "BrokenPipeError" in ended.stderr
    (folder,) = run_folders(program)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "failed" and "BrokenPipeError" in record["error"]
    assert 4 <= record["epochs"] == len(read_csv(folder / "history.csv"))
    assert keras.saving.load_model(folder / "model.keras").count_params() == 7850
    assert read_csv(program / "results" / "runs.csv")[0]["status"] == "failed"


def limit_files(size):
    """Return what makes a new process fail to write past size in a file, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_disk_that_fills_up(tmp_path):
    """There is room for run.json and history.csv, but not for model.keras and the pictures."""
    program = small_program(tmp_path, NB_EPOCH=3)
    process = run(program, preexec_fn=limit_files(10000))
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1].startswith("Test accuracy: 0.")
    *each, last = own_lines(process.stderr)
    names = ["model.keras", "confusion.png", "mistakes.png", "curves.png"]
    assert len(each) == len(names)
    for line, name in zip(each, names, strict=True):
        assert f"/{name} could not be written: " in line and "File too large" in line
    assert last == "not written: model.keras, confusion.png, mistakes.png, curves.png"
    (folder,) = run_folders(program)
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "run.json"]
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and record["epochs"] == 3
    assert list(record["unwritten"]) == names
    assert len(read_csv(folder / "history.csv")) == 3


def test_results_folder_on_a_full_disk(tmp_path):
    fails_before_training(small_program(tmp_path), "File too large", preexec_fn=limit_files(500))


def test_file_in_the_place_of_the_results_folder(tmp_path):
    program = small_program(tmp_path)
    (program / "results").write_text("")
    fails_before_training(program, "File exists")


def test_results_folder_without_the_right_to_write(tmp_path):
    program = small_program(tmp_path)
    (program / "results").mkdir()
    (program / "results").chmod(0o555)
    if os.access(program / "results", os.W_OK):  # root may write anywhere, but not in /proc
        edit_config(program, RESULTS_DIR="/proc/results")
        fails_before_training(program, "No such file or directory")
    else:
        fails_before_training(program, "Permission denied")


def fails_before_training(program, reason, **settings):
    """Check that a run ends with one line on RESULTS_DIR, before any training."""
    process = run(program, **settings)
    assert process.returncode == 1
    (line,) = own_lines(process.stderr)
    assert line.startswith("config.py: RESULTS_DIR = ") and reason in line
    assert "Results go to" not in process.stdout and "Test" not in process.stdout
