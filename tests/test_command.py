"""The command as people use it: what it prints and leaves, from config.py or an edited script."""

import json
import re
import shutil
import sys
from importlib import import_module

import command
import keras
import numpy as np
import pytest
from command import FILES, copy_program, own_lines, read_csv, read_runs, run, small_program

import config
import train_mnist

# nobody answers there, so whatever asks for the network fails
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the program from another folder without a network; return it and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    constants = {"NB_EPOCH": 3, "VERBOSE": 2, "DATA_PATH": "data/mnist.npz"}
    program = copy_program(folder / "program", **constants)
    (program / "data").mkdir()
    shutil.copy(command.MNIST, program / "data")
    process = run(program, cwd=folder, KERAS_HOME=str(folder / "keras"), **NO_NETWORK)
    assert own_lines(process) == []
    return program, process.stdout.splitlines()


def test_printed_lines_in_their_order(finished):
    program, lines = finished
    table = lines.index(f"Results are in {read_runs(program)[-1][0]}")
    assert lines[:2] == ["60000 train samples", "10000 test samples"]
    assert 'Model: "sequential"' in lines[2:table]
    assert " Total params: 7,850 (30.66 KB)" in lines[2:table]
    epoch = r"375/375 - .* - accuracy: 0\.\d+ - loss: .* - val_accuracy: 0\.\d+ - val_loss: .*"
    score = [r"313/313 - .*", r"Test score: 0\.5\d{3}", r"Test accuracy: 0\.8[678]\d{2}"]
    expected = ["Epoch 1/3", epoch, "Epoch 2/3", epoch, "Epoch 3/3", epoch, *score]
    for line, pattern in zip(lines[table + 1 :], expected, strict=True):
        assert re.fullmatch(pattern, line)


def test_files_and_record_of_a_run(finished):
    program, lines = finished
    folder, record = read_runs(program)[-1]
    assert command.file_names(folder) == FILES
    assert command.file_names(program / "results") == [folder.name, "runs.csv"]
    command.check_pictures(folder)
    assert record["status"] == "finished" and record["epochs"] == 3 and "error" not in record
    assert re.fullmatch(rf"{folder.name[:10]}T\d\d:\d\d:\d\d[+-]\d\d:\d\d", record["start"])
    constants = {**command.SUPPLIED, "NB_EPOCH": 3, "VERBOSE": 2}
    assert record["constants"].items() >= constants.items() and 1 < record["seconds"] < 600
    backend = keras.config.backend()
    found = [record[name] for name in ("keras", "backend", "backend_version", "numpy", "python")]
    versions = [keras.__version__, backend, import_module(backend).__version__, np.__version__]
    assert found == [*versions, sys.version.split()[0]] and re.search("[CG]PU:0", record["device"])
    assert record["data_sha256"] == command.sha256(command.MNIST)
    assert record["script_sha256"] == command.sha256(program / "train_mnist.py")
    names = ["accuracy", "loss", "val_accuracy", "val_loss", "test_accuracy", "test_score"]
    last = read_csv(folder / "history.csv")[-1]
    assert [float(last[name]) for name in names[:4]] == [record[name] for name in names[:4]]
    score = [f"Test score: {record['test_score']:.4f}", f"Test accuracy: {record[names[4]]:.4f}"]
    assert lines[-2:] == score
    (row,) = read_csv(program / "results" / "runs.csv")
    assert list(row) == ["folder", *record["constants"], *(n for n in record if n != "constants")]
    assert row["folder"] == folder.name and row["METRICS"] == "['accuracy']"
    assert all(row[name] == str(record[name]) for name in ["status", "script_sha256", *names])
    # so that whoever loads the model gets predictions of any size, on any backend
    assert keras.saving.load_model(folder / "model.keras").steps_per_execution == 1


def test_runs_csv_is_true_whatever_was_done_to_results(tmp_path, monkeypatch):
    program = small_program(tmp_path)
    results = program / "results"
    (results / "a folder" / "run.json").mkdir(parents=True)
    for number, text in enumerate(['{"status": "fin', '{"start": 5}', "[" * 100000]):
        (results / f"broken {number}").mkdir()
        (results / f"broken {number}" / "run.json").write_text(text)
    assert own_lines(run(program)) == []
    first, record = read_runs(program)[-1]
    for name, value in {**command.SUPPLIED, "RESULTS_DIR": str(tmp_path / "quick")}.items():
        monkeypatch.setattr(config, name, value, raising=False)
    for _ in range(20):
        with train_mnist.Run():
            pass
    assert len(read_csv(tmp_path / "quick" / "runs.csv")) == 20  # each in a folder of its own
    other = {"start": "", "constants": {"A_NEW_ONE": 5}, "precision": 0.5}  # of an edited script
    (results / "reference").mkdir()
    (results / "reference" / "run.json").write_text(json.dumps(other), "utf-8")
    run(program)
    rows = read_csv(results / "runs.csv")
    names = [folder.name for folder, _ in read_runs(program)]
    assert [row["folder"] for row in rows] == [*names, "reference"] and names[0] == first.name
    assert rows[2]["precision"] + rows[2]["A_NEW_ONE"] == "0.55" and not rows[0]["precision"]
    assert rows[0]["test_score"] == str(record["test_score"]) and not rows[2]["test_score"]


def test_constants_of_a_run_are_those_of_its_start(tmp_path):
    """The copy's config.py tells when it has been read; -I keeps its folder from Python's path."""
    home = {"DATA_PATH": "~/digits.npz", "RESULTS_DIR": "~/program/results"}
    program = small_program(tmp_path, SEED=1, **home)
    with open(program / "config.py", "a") as file:
        file.write("import sys\nassert 'keras' not in sys.modules  # before the slow imports\n")
        file.write("open(__file__ + '.read', 'w').close()\n")
    environment = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "MPLBACKEND": "widget"}
    isolated = [sys.executable, "-I", "train_mnist.py"]
    process = command.start(program, command=isolated, **environment)
    command.wait_until((program / "config.py.read").exists, process)
    command.edit_config(program, SEED=2)
    command.finish(process)
    folder, record = read_runs(program)[-1]
    assert record["constants"]["SEED"] == 1 and command.file_names(folder) == FILES


def test_a_constant_of_ones_own_a_second_fit_and_a_slip_in_a_picture(tmp_path):
    """The constant is recorded; every fit adds its rows; the other pictures are drawn."""
    program = small_program(tmp_path, MOMENTUM=0.5)
    given, fit = "    if config.LEARNING_RATE", "            history = model.fit("
    command.edit_script(program, given, f"    optimizer.momentum = config.MOMENTUM\n{given}")
    again = "model.fit(X_train, Y_train, verbose=0, validation_split=0.2, callbacks=[run, csv])"
    csv = "csv = keras.callbacks.CSVLogger(run.folder / 'history.csv', append=True)"
    command.edit_script(program, fit, f"            {csv}\n            {again}\n{fit}")
    command.edit_script(program, "counts.trace()", "conts.trace()")
    lines = own_lines(run(program))
    assert lines[0] == "ERROR:root:confusion.png cannot be drawn"
    assert lines[-1].startswith("NameError: name 'conts' is not defined")
    folder, record = read_runs(program)[-1]
    assert command.file_names(folder) == sorted({*FILES} - {"confusion.png"})
    rows = read_csv(folder / "history.csv")
    assert [row["epoch"] for row in rows] == ["0", "0", "1"] and record["epochs"] == 3
    assert record["val_loss"] == float(rows[2]["val_loss"])
    assert record["constants"]["MOMENTUM"] == 0.5
    assert keras.saving.load_model(folder / "model.keras").optimizer.momentum == 0.5


def test_saved_model_is_the_scored_one_after_the_best_was_loaded(tmp_path):
    """At this rate the loss goes up and down, and the last epoch's is not the lowest."""
    program = small_program(tmp_path, NB_EPOCH=9, LEARNING_RATE=2.0, HIDDEN_LAYERS=1)
    best = "keras.callbacks.ModelCheckpoint('best.keras', 'val_loss', save_best_only=True)"
    command.add_callback(program, best)
    scored = "        score = model.evaluate"
    load = "        model = keras.saving.load_model('best.keras')\n"
    command.edit_script(program, scored, load + scored)
    run(program)
    folder, record = read_runs(program)[-1]
    loss, _ = command.evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test_score"], rel=1e-5)
    assert loss == pytest.approx(command.evaluate(program / "best.keras")[0])
    losses = [float(row["val_loss"]) for row in read_csv(folder / "history.csv")]
    assert min(losses) < losses[-1]
