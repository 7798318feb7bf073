"""What each run leaves in the results folder."""

import hashlib
import json
import re
import sys

import command
import keras
import numpy as np
import pytest
from command import FILES, MNIST, PICTURES, own_lines, read_csv, read_run, run, small_program

import train_mnist


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the program for two epochs; return it, its folder, its record and what it printed."""
    folder = tmp_path_factory.mktemp("run") / "program"
    program = command.copy_program(folder, NB_EPOCH=2, VERBOSE=2)
    process = run(program)
    return program, *read_run(program), process.stdout


def test_files_of_a_run_and_its_row(finished):
    program, folder, record, _ = finished
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert command.file_names(folder) == FILES
    assert command.file_names(program / "results") == [folder.name, "runs.csv"]
    command.check_pictures(folder)
    (row,) = read_csv(program / "results" / "runs.csv")
    figures = ["accuracy", "loss", "val_accuracy", "val_loss", "test_accuracy", "test_score"]
    assert list(row)[:18] == ["folder", *train_mnist.ALLOWED] and list(row)[-6:] == figures
    assert row["script_sha256"] == record["script_sha256"][:8] + "..."  # no number
    assert row["folder"] == folder.name and row["status"] == "finished" and row["epochs"] == "2"
    assert [float(row[name]) for name in figures] == [record[name] for name in figures]
    assert row["METRICS"] == "['accuracy']"
    # so that whoever loads the model gets predictions of any size, on any backend
    assert keras.saving.load_model(folder / "model.keras").steps_per_execution == 1


def test_record_of_a_run(finished):
    program, folder, record, stdout = finished
    assert record["status"] == "finished" and record["epochs"] == 2
    assert record["start"].startswith(folder.name[:10])
    assert 1 < record["seconds"] < 600
    text = (program / "config.py").read_text("utf-8")
    assert list(record["constants"]) == re.findall("^([A-Z_]+) =", text, re.MULTILINE)
    assert record["constants"]["NB_EPOCH"] == 2 and record["constants"]["METRICS"] == ["accuracy"]
    assert record["versions"]["keras"] == keras.__version__ and len(record["versions"]) == 3
    assert record["python"] == sys.version.split()[0] and re.match("CPU|GPU", record["device"])
    assert record["data_sha256"] == hashlib.sha256(MNIST.read_bytes()).hexdigest()
    script = (program / "train_mnist.py").read_bytes()
    assert record["script_sha256"] == hashlib.sha256(script).hexdigest()
    score, accuracy = record["test_score"], record["test_accuracy"]
    assert stdout.endswith(f"Test score: {score:.4f}\nTest accuracy: {accuracy:.4f}\n")
    last = read_csv(folder / "history.csv")[-1]
    assert all(float(last[name]) == record[name] for name in last if name != "epoch")


@pytest.mark.parametrize(
    "constants",
    [
        {"VALIDATION_SPLIT": 0, "METRICS": ["accuracy", "precision", "f1_score", "auc"]},
        {"HIDDEN_LAYERS": 2, "N_HIDDEN": 32, "NB_CLASSES": 60, "NB_EPOCH": 1, "METRICS": []},
    ],
)
def test_pictures_of_unusual_runs(tmp_path, constants):
    assert own_lines(run(small_program(tmp_path, **constants))) == []
    command.check_pictures(read_run(tmp_path / "program")[0])


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,), (28, 14)])
def test_images_of_other_shapes(tmp_path, shape):
    """Those stored as rows are learnt without a mistake, as all have the same label."""
    program = small_program(tmp_path, RESHAPED=int(np.prod(shape)), LEARNING_RATE=1.0)
    arrays = command.digits()
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key].reshape(-1, 784)[:, : np.prod(shape)].reshape(-1, *shape)
    if shape == (784,):
        arrays |= {key: arrays[key] * 0 for key in ("y_train", "y_test")}
    np.savez(tmp_path / "digits.npz", **arrays)
    process = run(program)
    assert process.stdout.endswith("Test accuracy: 1.0000\n") == (shape == (784,))
    missing = PICTURES[2:] if shape == (28, 14) else []
    reason = "images not square"
    assert own_lines(process) == [f"WARNING:root:no {name}: {reason}" for name in missing]
    assert command.file_names(read_run(program)[0]) == sorted(set(FILES) - set(missing))


def test_runs_csv_is_true_whatever_was_done_to_results(tmp_path):
    program = small_program(tmp_path)
    results = program / "results"
    (results / "a folder" / "run.json").mkdir(parents=True)
    for number, text in enumerate(['{"status": "fin', '{"start": 5}', "[" * 100000]):
        (results / f"broken {number}").mkdir()
        (results / f"broken {number}" / "run.json").write_text(text)
    assert own_lines(run(program)) == []
    first, record = read_run(program)
    killed = {k: v for k, v in record.items() if "accuracy" not in k and "loss" not in k}
    own = {"precision": 0.5, "script_sha256": "0123456789abcdef"}  # of an edited script
    own["constants"] = record["constants"] | {"A_NEW_ONE": 5}
    for name, other in {"0 killed": killed, "reference": record | own}.items():
        (results / name).mkdir()
        (results / name / "run.json").write_text(json.dumps(other), "utf-8")
    run(program)
    rows = read_csv(results / "runs.csv")
    names = [row["folder"] for row in rows]
    assert names == ["0 killed", first.name, command.run_folders(program)[1].name, "reference"]
    assert [row["precision"] for row in rows] == ["", "", "", "0.5"]
    assert rows[3]["script_sha256"] == "01234567..." and rows[3]["A_NEW_ONE"] == "5"
    assert list(rows[0]).index("accuracy") > list(rows[0]).index("seconds")
    assert not list(results.glob("**/new-*"))


def test_two_runs_at_once(tmp_path):
    program = small_program(tmp_path)
    processes = [command.start(program), command.start(program)]
    assert [command.finish(process).returncode for process in processes] == [0, 0]
    folders = command.run_folders(program)
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["folder"] for row in rows] == [folder.name for folder in folders]
    assert len(rows) == 2 and all(command.file_names(folder) == FILES for folder in folders)
