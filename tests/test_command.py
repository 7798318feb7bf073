"""The command as people use it: what it prints, what it leaves, and how it exits."""

import re
import shutil
import signal
import sys
import time
from importlib import import_module

import command
import keras
import numpy as np
import pytest
from command import own_lines, posix, read_csv, read_run, read_runs, run

# nobody answers there, so whatever asks for the network fails
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run three epochs of all MNIST, from another folder and without a network."""
    folder = tmp_path_factory.mktemp("run")
    program = command.copy_program(
        folder / "program", NB_EPOCH=3, VERBOSE=2, DATA_PATH="data/mnist.npz"
    )
    (program / "data").mkdir()
    shutil.copy(command.MNIST, program / "data")
    stdout, stderr = run(program, cwd=folder, KERAS_HOME=str(folder / "keras"), **NO_NETWORK)
    run_folder, record = read_run(program / "results")
    return {
        "program": program,
        "lines": stdout.splitlines(),
        "errors": own_lines(stderr),
        "folder": run_folder,
        "record": record,
    }


def test_first_lines_are_the_numbers_of_samples(finished):
    assert finished["lines"][:2] == ["60000 train samples", "10000 test samples"]


def test_the_summary_follows(finished):
    assert finished["lines"][2] == 'Model: "sequential"'
    assert " Total params: 7,850 (30.66 KB)" in finished["lines"]


def test_then_the_folder_the_epochs_and_the_score(finished):
    start = finished["lines"].index(f"Results are in {finished['folder']}")
    epoch = r"375/375 - .* - accuracy: 0\.\d+ - loss: .* - val_accuracy: 0\.\d+ - val_loss: .*"
    expected = [
        "Epoch 1/3",
        epoch,
        "Epoch 2/3",
        epoch,
        "Epoch 3/3",
        epoch,
        r"313/313 - .*",
        r"Test score: 0\.5\d+",
        r"Test accuracy: 0\.8[678]\d*",
    ]
    for line, pattern in zip(finished["lines"][start + 1 :], expected, strict=True):
        assert re.fullmatch(pattern, line)


def test_a_good_run_prints_no_errors(finished):
    assert finished["errors"] == []


def test_a_run_leaves_its_files_in_a_folder_of_its_own(finished):
    assert command.file_names(finished["folder"]) == command.FILES
    results = command.file_names(finished["program"] / "results")
    assert results == [finished["folder"].name, "runs.csv"]


def test_record_has_the_constants(finished):
    changed = {"NB_EPOCH": 3, "VERBOSE": 2}
    assert finished["record"]["constants"] == command.SUPPLIED | changed


def test_record_has_the_versions(finished):
    record = finished["record"]
    assert record["python"] == sys.version.split()[0]
    assert record["keras"] == keras.__version__
    assert record["backend"] == keras.config.backend()
    assert record["backend_version"] == import_module(keras.config.backend()).__version__
    assert record["numpy"] == np.__version__
    assert re.search("[CG]PU:0", record["device"])


def test_record_has_the_hashes_of_data_and_script(finished):
    assert finished["record"]["data_sha256"] == command.sha256(command.MNIST)
    script = finished["program"] / "train_mnist.py"
    assert finished["record"]["script_sha256"] == command.sha256(script)


def test_record_has_start_and_duration(finished):
    day = finished["folder"].name[:10]
    assert re.fullmatch(rf"{day}T\d\d:\d\d:\d\d[+-]\d\d:\d\d", finished["record"]["start"])
    assert 1 < finished["record"]["seconds"] < 600


def test_record_has_the_last_epochs_figures(finished):
    record = finished["record"]
    last = read_csv(finished["folder"] / "history.csv")[-1]
    assert record["status"] == "finished"
    assert record["epochs"] == 3
    for name in ("accuracy", "loss", "val_accuracy", "val_loss"):
        assert record[name] == float(last[name])


def test_record_has_the_score_that_is_printed(finished):
    record = finished["record"]
    score, accuracy = finished["lines"][-2:]
    assert float(score.removeprefix("Test score: ")) == round(record["test_loss"], 4)
    assert float(accuracy.removeprefix("Test accuracy: ")) == round(record["test_accuracy"], 4)


def test_runs_csv_has_the_record_in_a_row(finished):
    (row,) = read_csv(finished["program"] / "results" / "runs.csv")
    record = dict(finished["record"])
    constants = record.pop("constants")
    assert list(row) == ["folder", *constants, *record]
    assert row["folder"] == finished["folder"].name
    assert row["OPTIMIZER"] == "sgd"
    assert row["test_accuracy"] == str(record["test_accuracy"])


def test_model_is_saved_for_any_use(finished):
    """More steps an execution would suit neither single digits nor other backends."""
    model = keras.saving.load_model(finished["folder"] / "model.keras")
    assert model.count_params() == 7850
    assert model.steps_per_execution == 1


def test_a_fault_in_config_is_a_line_and_no_training(program):
    command.edit_config(program, NB_EPOCH=0)
    stdout, stderr = run(program, exits=1)
    fault = "NB_EPOCH = 0: it must be a whole number, 1 or more"
    assert own_lines(stderr) == [f"{program / 'config.py'}: {fault}"]
    assert stdout == ""
    assert not (program / "results").exists()


def test_a_download_that_fails_is_keras_own_error(program, tmp_path):
    command.edit_config(program, DATA_PATH=None)
    _, stderr = run(program, exits=1, KERAS_HOME=str(tmp_path / "keras"), **NO_NETWORK)
    assert "Exception: URL fetch failure on " in stderr


def test_a_misspelt_constant_is_a_warning(program):
    command.add_to_config(program, "HIDEN_LAYERS = 2\n")
    stdout, stderr = run(program)
    warning = "HIDEN_LAYERS is not used by train_mnist.py"
    assert own_lines(stderr) == [f"{program / 'config.py'}: {warning}"]
    assert "Test accuracy" in stdout


def test_a_helper_constant_is_right(program):
    command.add_to_config(program, "SEEDS = [1, 2]\nSEED = SEEDS[0]\n")
    _, stderr = run(program)
    assert own_lines(stderr) == []
    _, record = read_run(program / "results")
    assert record["constants"]["SEED"] == 1


def test_a_missing_constant_is_pythons_traceback(program):
    text = (program / "config.py").read_text("utf-8").replace("\nDROPOUT = ", "\nDROPOT = ")
    (program / "config.py").write_text(text, "utf-8")
    _, stderr = run(program, exits=1)
    assert "Traceback" in stderr
    assert "has no attribute 'DROPOUT'. Did you mean: 'DROPOT'?" in stderr


def test_a_slip_in_main_is_pythons_traceback(program):
    command.edit_script(program, "run.record_score(model, score)", "run.record_score(model, scor)")
    _, stderr = run(program, exits=1)
    assert "run.record_score(model, scor)" in stderr
    assert "NameError: name 'scor' is not defined" in stderr
    _, record = read_run(program / "results")
    assert record["status"] == "failed"
    assert record["error"].startswith("NameError(\"name 'scor' is not defined")
    assert record["epochs"] == 2


def run_and_edit(program, edit):
    """Run the command; call edit() as soon as it has read config.py, and return the record."""
    command.add_to_config(program, "open(__file__ + '.read', 'w').close()\n")
    with command.started(program) as process:
        command.wait_until((program / "config.py.read").exists, process)
        edit()
        command.finish(process)
    _, record = read_run(program / "results")
    return record


def test_config_is_read_before_keras_is(program):
    command.add_to_config(program, "import sys\nassert 'keras' not in sys.modules\n")
    run(program)


def test_an_edit_of_config_just_after_the_start_is_for_the_next_run(program):
    command.edit_config(program, SEED=1)
    record = run_and_edit(program, lambda: command.edit_config(program, SEED=2))
    assert record["constants"]["SEED"] == 1


def test_an_edit_of_the_script_while_keras_is_imported_is_not_what_is_recorded(program):
    started = command.sha256(program / "train_mnist.py")
    edit = ("    # normalize\n", "    # scale\n")
    record = run_and_edit(program, lambda: command.edit_script(program, *edit))
    assert record["script_sha256"] == started


def test_a_diverged_run_is_a_line_and_exit_code_1(program):
    command.edit_config(program, HIDDEN_LAYERS=1, LEARNING_RATE=1e20)
    _, stderr = run(program, exits=1)
    (line,) = own_lines(stderr)
    assert line.endswith("at a learning rate of 1e+20: try a smaller LEARNING_RATE")


def test_a_second_fit_adds_its_epochs(program):
    again = "model.fit(X_train, Y_train, validation_split=0.2, verbose=0, callbacks=callbacks)"
    fit = "        score = model.evaluate"
    callbacks = "        callbacks = [history_csv, run]\n"
    command.edit_script(program, fit, f"{callbacks}        {again}\n{fit}")
    run(program)
    folder, record = read_run(program / "results")
    history = read_csv(folder / "history.csv")
    assert [row["epoch"] for row in history] == ["0", "1", "0"]
    assert record["epochs"] == 3
    assert record["val_loss"] == float(history[-1]["val_loss"])


def test_a_notebooks_backend_is_not_inherited(program):
    """A notebook's !python hands it on; it may not be installed where the program runs."""
    run(program, MPLBACKEND="widget")
    folder, _ = read_run(program / "results")
    assert command.file_names(folder) == command.FILES


IMPORT = """
import os
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
before = set(os.environ)
import train_mnist
print(sorted(name for name in before ^ set(os.environ) if not name.startswith("TF2_")))
"""


def test_an_import_changes_nothing(program):
    """TF2_BEHAVIOR is TensorFlow's own."""
    stdout, _ = run(program, command=[sys.executable, "-c", IMPORT], MPLBACKEND="svg")
    assert stdout == "[]\n"
    assert not (program / "results").exists()


@posix
def test_ctrl_c_ends_the_command_with_a_line(program):
    command.edit_config(program, NB_EPOCH=9)
    command.add_to_config(program, command.PAUSE)
    with command.started(program) as process:
        command.wait_until((program / "config.py.pausing").exists, process)
        process.send_signal(signal.SIGINT)
        _, stderr = command.finish(process, exits=1)
    assert own_lines(stderr) == ["Interrupted"]
    _, record = read_run(program / "results")
    assert record["status"] == "interrupted"
    assert record["epochs"] == 2


@posix
def test_killed_runs_keep_every_finished_epoch(program):
    """Kill runs of very short epochs at random moments, many of them amid the writing."""
    moments = np.random.default_rng(1671)
    command.edit_config(program, NB_EPOCH=100000)
    for _ in range(3):
        rows = moments.integers(2, 40)
        shutil.rmtree(program / "results", ignore_errors=True)
        with command.started(program) as process:
            command.wait_until(lambda least=rows: rows_so_far(program) > least, process)
            time.sleep(moments.uniform(0, 0.1))
        check_killed(program)


def rows_so_far(program):
    """Return how many rows the history.csv files have, with their headers."""
    paths = (program / "results").glob("*/history.csv")
    return sum(len(path.read_text().splitlines()) for path in paths)


def check_killed(program):
    """Check that history, record and model of a killed run are whole and of the same epoch."""
    folder, record = read_run(program / "results")
    history = read_csv(folder / "history.csv")
    assert [row["epoch"] for row in history] == [str(epoch) for epoch in range(len(history))]
    assert record["status"] == "unfinished"
    assert record["epochs"] in (len(history), len(history) - 1)
    assert record["val_loss"] == float(history[record["epochs"] - 1]["val_loss"])
    model = keras.saving.load_model(folder / "model.keras")
    steps = int(model.optimizer.iterations)
    assert steps in (4 * record["epochs"], 4 * record["epochs"] + 4)  # 400 samples by 128


@posix
def test_the_next_run_adds_a_killed_runs_row(program):
    command.edit_config(program, NB_EPOCH=100000)
    with command.started(program) as process:
        command.wait_until(lambda: rows_so_far(program) > 3, process)
    command.edit_config(program, NB_EPOCH=1)
    run(program)
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["status"] for row in rows] == ["unfinished", "finished"]
    _, killed = read_runs(program / "results")[0]
    assert rows[0]["epochs"] == str(killed["epochs"])


@posix
def test_a_full_disk_ends_the_run_and_keeps_what_was_finished(program):
    """There is room for run.json, runs.csv and history.csv, but not for model.keras."""
    limited = f"ulimit -f 20; exec '{sys.executable}' train_mnist.py"  # 20 blocks of 512 bytes
    _, stderr = run(program, exits=1, command=["sh", "-c", limited])
    assert "OSError: [Errno 27] File too large" in stderr
    folder, record = read_run(program / "results")
    assert record["status"] == "failed"
    assert command.file_names(folder) == ["history.csv", "run.json"]
    assert len(read_csv(folder / "history.csv")) == 1
    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["status"] == "failed"
