"""No fault loses a finished epoch: signals, divergence, sudden death, full disks, no rights."""

import shutil
import signal
import sys
import time

import command
import keras
import numpy as np
import pytest
from command import own_lines, posix, read_csv, read_run, run, small_program, start

STOPPING = "WARNING:root:Stopping after this epoch; once more quits at once."


def rows_so_far(program):
    """Return how many lines history.csv has, 0 before it is there."""
    paths = (program / "results").glob("*/history.csv")
    return sum(len(path.read_text().splitlines()) for path in paths)


def raises(*names, when="epoch_end", at=4):
    """Return a callback that raises signals at an epoch or a batch, as it stands in the script."""
    calls = " or ".join(f"signal.raise_signal(signal.{name})" for name in names)
    return f"keras.callbacks.LambdaCallback(on_{when}=lambda n, logs: n == {at} and ({calls}))"


@posix
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_after_its_epoch_with_all_results(tmp_path, number, code):
    program = small_program(tmp_path, NB_EPOCH=100000)
    process = start(program)
    command.wait_until(lambda: rows_so_far(program) >= 3, process)
    process.send_signal(number)
    ended = command.finish(process)
    assert ended.returncode == code and own_lines(ended) == [STOPPING]
    folder, record = read_run(program)
    assert command.file_names(folder) == command.FILES
    command.check_pictures(folder)
    assert record["status"] == "interrupted"
    assert 2 <= record["epochs"] == len(read_csv(folder / "history.csv")) < 100000
    # score, history and model are those of the same epoch
    loss, accuracy = command.evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test_score"], rel=1e-5)
    assert ended.stdout.splitlines()[-1] == f"Test accuracy: {accuracy:.4f}"
    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["status"] == "interrupted" and float(row["test_score"]) == record["test_score"]


def test_signal_amid_an_epoch_lets_it_end(tmp_path):
    program = small_program(tmp_path, BATCH_SIZE=5, STEPS_PER_EXECUTION=1)
    command.add_callback(program, raises("SIGINT", when="train_batch_end"))
    run(program, exits=130)
    folder, record = read_run(program)
    assert record["epochs"] == 1 == len(read_csv(folder / "history.csv"))
    model = keras.saving.load_model(folder / "model.keras")
    assert int(model.optimizer.iterations) == 80  # of 400 samples in batches of 5


@posix
def test_second_signal_ends_at_once(tmp_path):
    program = small_program(tmp_path, NB_EPOCH=9)
    command.add_callback(program, raises("SIGINT", "SIGTERM"))
    process = run(program, exits=-signal.SIGTERM)
    assert own_lines(process) == [STOPPING] and "Test score" not in process.stdout
    assert read_run(program)[1]["status"] == "unfinished"


@posix
def test_signal_that_was_ignored_stays_ignored(tmp_path):
    program = small_program(tmp_path, NB_EPOCH=9)
    command.add_callback(program, raises("SIGINT"))
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    assert own_lines(run(program, **ignore)) == []
    assert read_run(program)[1]["epochs"] == 9


def test_signal_in_the_last_epoch_changes_nothing(tmp_path):
    program = small_program(tmp_path, NB_EPOCH=5)
    command.add_callback(program, raises("SIGINT"), last=False)
    assert own_lines(run(program)) == [STOPPING]
    record = read_run(program)[1]
    assert record["status"] == "finished" and record["epochs"] == 5


def test_divergence_stops_the_run(tmp_path):
    program = small_program(tmp_path, NB_EPOCH=1000, HIDDEN_LAYERS=3, LEARNING_RATE=10.0)
    process = run(program, exits=1)
    (line,) = own_lines(process)
    assert line.endswith("The loss diverged at a learning rate of 10: try a smaller one")
    folder, record = read_run(program)
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
    for _ in range(3):
        rows = moments.integers(2, 40)
        process = start(program)
        command.wait_until(lambda rows=rows: rows_so_far(program) > rows, process)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        folder, record = read_run(program)
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
    folder, record = read_run(tmp_path / "program")
    for name, line in zip(["model.keras"] * 3 + command.PICTURES, own_lines(process), strict=True):
        assert f"{folder / name} cannot be written: File too large" in line
    assert process.stdout.endswith(f"Test accuracy: {record['test_accuracy']:.4f}\n")
    assert record["status"] == "finished" and len(read_csv(folder / "history.csv")) == 2
    assert command.file_names(folder) == ["history.csv", "run.json"]


# What is in the way of a file is a folder of its name, made before an epoch and taken away later.
HOLD = """keras.callbacks.LambdaCallback(on_epoch_begin=lambda n, logs: (
    n == 1 and (run.folder / "model.keras").unlink(),
    n == 1 and [(run.folder / name).mkdir() for name in {names}],
    n == 2 and (run.folder / "model.keras").rmdir(),
))"""


@pytest.mark.parametrize("stopped", [False, True])
def test_files_that_are_held(tmp_path, stopped):
    """model.keras is held for an epoch, two pictures to the end, the table all the time."""
    program = small_program(tmp_path, NB_EPOCH=4)
    names = ["model.keras", "confusion.png", "weights.png"]
    command.add_callback(program, HOLD.format(names=names))
    if stopped:
        command.edit_script(program, " run, keras", f" run, {raises('SIGINT', at=1)}, keras")
    (program / "results" / "runs.csv").mkdir(parents=True)
    process = run(program, exits=130 if stopped else 1)
    folder, record = read_run(program)
    model, *pictures = [folder / name for name in names]
    table = program / "results" / "runs.csv"
    lines = [line.partition(" cannot be written")[0] for line in own_lines(process)]
    expected = [f"WARNING:root:{path}" for path in (table, model, table, *pictures)]
    assert [line for line in lines if line != STOPPING] == expected
    assert record["status"] == ("interrupted" if stopped else "finished")
    assert command.evaluate(folder / "model.keras")[0] == pytest.approx(record["test_score"])
    assert command.file_names(folder) == command.FILES
    command.check_pictures(folder, ["curves.png", "mistakes.png"])


@posix
@pytest.mark.parametrize("results", ["config.py", "/proc/results", "~nosuchuser/runs"])
def test_results_folder_that_cannot_be_made(tmp_path, results):
    (line,) = own_lines(run(small_program(tmp_path, RESULTS_DIR=results), exits=1))
    assert line.startswith(f"config.py: RESULTS_DIR = '{results}' cannot be used: ")
