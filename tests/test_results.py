"""What each run leaves in the results folder."""

import hashlib
import json
import re
import sys

import command
import keras
import numpy as np
import pytest
from command import FILES, MNIST, copy_program, own_lines, read_csv, read_run, run, small_program

import train_mnist


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the program for two epochs; return it, its folder, its record and what it printed."""
    program = copy_program(tmp_path_factory.mktemp("run") / "program", NB_EPOCH=2, VERBOSE=2)
    process = run(program)
    return program, *read_run(program), process.stdout


def test_files_of_a_run(finished):
    program, folder, _, _ = finished
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert command.file_names(folder) == FILES
    assert command.file_names(program / "results") == [folder.name, "runs.csv"]
    command.check_pictures(folder)


def test_record_of_a_run(finished):
    program, folder, record, stdout = finished
    assert record["status"] == "finished" and record["epochs"] == 2
    assert record["start"].startswith(folder.name[:10])
    assert 1 < record["seconds"] < 600
    text = (program / "config.py").read_text("utf-8")
    assert list(record["constants"]) == re.findall("^([A-Z_]+) =", text, re.MULTILINE)
    assert record["constants"]["NB_EPOCH"] == 2 and record["constants"]["METRICS"] == ["accuracy"]
    versions = {"keras": keras.__version__, "numpy": np.__version__}
    assert versions.items() <= record["versions"].items()
    assert record["python"] == sys.version.split()[0]
    assert keras.config.backend() in record["versions"] and re.match("CPU|GPU", record["device"])
    assert record["data_sha256"] == hashlib.sha256(MNIST.read_bytes()).hexdigest()
    script = (program / "train_mnist.py").read_bytes()
    assert record["script_sha256"] == hashlib.sha256(script).hexdigest()
    assert f"Test score: {record['test_score']:.4f}\n" in stdout
    assert stdout.endswith(f"Test accuracy: {record['test_accuracy']:.4f}\n")


def test_history_of_a_run(finished):
    _, folder, record, stdout = finished
    history = read_csv(folder / "history.csv")
    for name in ("accuracy", "loss", "val_accuracy", "val_loss"):
        shown = re.findall(rf" {name}: (\S+)", stdout)[:2]
        assert [f"{float(row[name]):.4f}" for row in history] == shown
        assert float(history[-1][name]) == record[name]


def test_row_of_a_run(finished):
    program, folder, record, _ = finished
    (row,) = read_csv(program / "results" / "runs.csv")
    figures = ["accuracy", "loss", "val_accuracy", "val_loss", "test_accuracy", "test_score"]
    about = ["start", "python", "versions", "device", "data_sha256", "script_sha256"]
    about += ["status", "epochs", "seconds"]
    assert list(row) == ["folder", *train_mnist.ALLOWED, *about, *figures]
    assert row["folder"] == folder.name and row["status"] == "finished" and row["epochs"] == "2"
    assert [float(row[name]) for name in figures] == [record[name] for name in figures]
    assert row["SEED"] == "1671" and row["METRICS"] == "['accuracy']"


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


def test_pictures_without_a_mistake_of_images_stored_as_rows(tmp_path):
    program = small_program(tmp_path, LEARNING_RATE=1.0)
    arrays = command.digits(500, 100)
    for key, array in arrays.items():
        arrays[key] = array.reshape(-1, 784) if key[0] == "x" else array * 0
    np.savez(tmp_path / "digits.npz", **arrays)
    assert run(program).stdout.endswith("Test accuracy: 1.0000\n")
    assert command.file_names(read_run(program)[0]) == FILES


@pytest.mark.parametrize("shape, square", [((1, 28, 28), True), ((28, 14), False)])
def test_images_of_other_shapes(tmp_path, shape, square):
    program = small_program(tmp_path, RESHAPED=int(np.prod(shape)))
    arrays = command.digits(500, 100)
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key].reshape(-1, 784)[:, : np.prod(shape)].reshape(-1, *shape)
    np.savez(tmp_path / "digits.npz", **arrays)
    lines = own_lines(run(program))
    folder, record = read_run(program)
    assert record["status"] == "finished"
    command.check_pictures(folder, command.PICTURES if square else ["confusion.png", "curves.png"])
    pictures = [] if square else ["mistakes.png", "weights.png"]
    for name, line in zip(pictures, lines, strict=True):
        assert line.endswith(f"no {name}: the images are not square")


def test_runs_csv_is_true_whatever_was_done_to_results(tmp_path):
    program = small_program(tmp_path)
    results = program / "results"
    (results / "0 a folder" / "run.json").mkdir(parents=True)
    texts = {"broken": '{"status": "fin', "other": '{"start": 5}', "deep": "[" * 100000}
    for name, text in texts.items():
        (results / name).mkdir()
        (results / name / "run.json").write_text(text)
    assert own_lines(run(program)) == []
    (first,) = results.glob("2*")
    record = json.loads((first / "run.json").read_text("utf-8"))
    killed = {k: v for k, v in record.items() if "accuracy" not in k and "loss" not in k}
    own = {"precision": 0.5, "script_sha256": "0123456789abcdef"}  # of an edited script
    own["constants"] = record["constants"] | {"A_NEW_ONE": 5}
    for name, other in {"0 killed": killed, "reference": record | own}.items():
        (results / name).mkdir()
        (results / name / "run.json").write_text(json.dumps(other), "utf-8")
    run(program)
    rows = read_csv(results / "runs.csv")
    names = [row["folder"] for row in rows]
    assert names == ["0 killed", first.name, sorted(results.glob("2*"))[1].name, "reference"]
    assert [row["precision"] for row in rows] == ["", "", "", "0.5"]
    assert rows[1]["script_sha256"] == record["script_sha256"][:8]
    assert rows[3]["script_sha256"] == "01234567" and rows[3]["A_NEW_ONE"] == "5"
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
