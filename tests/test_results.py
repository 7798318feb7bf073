"""What each run leaves in the results folder."""

import csv
import hashlib
import json
import re
import shutil
import sys
from datetime import datetime, timedelta

import keras
import matplotlib
import numpy as np
import pytest
from command import ROOT, copy_program, own_lines, run, save_digits, start
from matplotlib.image import imread

FILES = ["confusion.png", "curves.png", "history.csv", "mistakes.png", "model.keras", "run.json"]


def small_program(tmp_path, **constants):
    """Copy the program for quick runs on a few digits."""
    save_digits(tmp_path / "digits.npz", n_train=500, n_test=100)
    defaults = {"DATA_PATH": str(tmp_path / "digits.npz"), "NB_EPOCH": 2, "VERBOSE": 0}
    return copy_program(tmp_path / "program", **{**defaults, **constants})


def read_csv(path):
    """Read a .csv file as a list of dicts."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run_folders(program):
    """Return the folders of the program's runs, the oldest first."""
    return sorted(path for path in (program / "results").iterdir() if path.is_dir())


def test_every_file_of_a_run(tmp_path):
    program = copy_program(tmp_path / "program", NB_EPOCH=2, VERBOSE=2)
    process = run(program)
    assert process.returncode == 0, process.stderr
    (folder,) = run_folders(program)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sorted(path.name for path in (program / "results").iterdir()) == [
        folder.name,
        "runs.csv",
    ]

    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and record["epochs"] == 2 and record["unwritten"] == {}
    assert record["start"].startswith(folder.name[:10])
    assert 1 < record["seconds"] < 600
    assert record["constants"]["NB_EPOCH"] == 2 and record["constants"]["METRICS"] == ["accuracy"]
    constants = re.findall("^([A-Z_]+) =", (ROOT / "config.py").read_text(), re.MULTILINE)
    assert sorted(record["constants"]) == sorted(constants)
    assert record["versions"]["python"] == sys.version.split()[0]
    assert record["versions"]["keras"] == keras.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["backend"] == keras.backend.backend() and record["backend"] in record["versions"]
    assert re.match("(CPU|GPU)", record["device"])
    data = (ROOT / "data" / "mnist.npz").read_bytes()
    assert record["data_sha256"] == hashlib.sha256(data).hexdigest()
    assert f"Test score: {record['test']['score']:.4f}\n" in process.stdout
    assert process.stdout.endswith(f"Test accuracy: {record['test']['accuracy']:.4f}\n")

    history = read_csv(folder / "history.csv")
    assert [row["epoch"] for row in history] == ["0", "1"]
    shown = re.findall(r"val_accuracy: (\S+) - val_loss: (\S+)", process.stdout)
    pairs = [(float(row["val_accuracy"]), float(row["val_loss"])) for row in history]
    assert [(f"{accuracy:.4f}", f"{loss:.4f}") for accuracy, loss in pairs] == shown

    model = keras.saving.load_model(folder / "model.keras")
    with np.load(ROOT / "data" / "mnist.npz") as arrays:
        X_test = arrays["x_test"].reshape(-1, 784) / np.float32(255)
        Y_test = keras.utils.to_categorical(arrays["y_test"], 10)
    loss, accuracy = model.evaluate(X_test, Y_test, verbose=0)
    assert loss == pytest.approx(record["test"]["score"], rel=1e-5)
    assert accuracy == pytest.approx(record["test"]["accuracy"], abs=1e-6)

    (row,) = read_csv(program / "results" / "runs.csv")
    assert row["folder"] == folder.name and row["status"] == "finished" and row["epochs"] == "2"
    assert float(row["seconds"]) == record["seconds"]
    assert float(row["test_score"]) == record["test"]["score"]
    assert float(row["test_accuracy"]) == record["test"]["accuracy"]
    assert {name: str(value) for name, value in record["constants"].items()}.items() <= row.items()


@pytest.mark.parametrize(
    "constants",
    [
        {"VALIDATION_SPLIT": 0},
        {"NB_EPOCH": 1, "METRICS": ["accuracy", "precision", "recall"]},
        {"NB_CLASSES": 60, "METRICS": []},
    ],
)
def test_pictures_of_unusual_runs(tmp_path, constants):
    program = small_program(tmp_path, **constants)
    process = run(program)
    assert process.returncode == 0, process.stderr
    assert own_lines(process.stderr) == []
    (folder,) = run_folders(program)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    check_pictures(folder)


def check_pictures(folder):
    """Check that the three pictures are whole and not blank, and drawn without a window."""
    for name in ("curves.png", "confusion.png", "mistakes.png"):
        pixels = imread(folder / name)
        assert pixels.shape[0] >= 400 and pixels.shape[1] >= 600
        assert pixels[..., :3].std() > 0.05
    assert matplotlib.get_backend().lower() == "agg"


def test_pictures_of_two_classes_without_a_mistake(tmp_path):
    """Black and white images, stored as rows, are learnt to the last one: no mistake is left."""
    images = np.zeros((40, 784), "uint8")
    images[::2] = 255
    labels = np.arange(40) % 2
    np.savez(tmp_path / "easy.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    constants = {"DATA_PATH": "../easy.npz", "NB_CLASSES": 2, "NB_EPOCH": 20, "LEARNING_RATE": 0.1}
    program = copy_program(tmp_path / "program", VERBOSE=0, **constants)
    process = run(program)
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("Test accuracy: 1.0000\n")
    (folder,) = run_folders(program)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert json.loads((folder / "run.json").read_text())["unwritten"] == {}


def test_runs_csv_is_true_whatever_was_done_to_results(tmp_path):
    program = small_program(tmp_path)
    results = program / "results"
    assert run(program).returncode == 0
    (first,) = run_folders(program)
    before = {path.name: path.read_bytes() for path in first.iterdir()}

    # a run copied in from elsewhere, one that is broken, one without an end, and foreign things
    copied = results / "reference"
    shutil.copytree(first, copied)
    record = json.loads((copied / "run.json").read_text())
    record["start"] = "2020-01-01T00:00:00+01:00"
    record["constants"]["A_NEW_ONE"] = 5
    (copied / "run.json").write_text(json.dumps(record))
    for name, text in {
        "broken": '{"status": "fin',
        "list": "[1, 2]",
        "binary": "\udc80",
        "other": '{"start": "yesterday"}',
    }.items():
        (results / name).mkdir()
        (results / name / "run.json").write_text(text, errors="surrogateescape")
    (results / "folder" / "run.json").mkdir(parents=True)
    (results / "foreign").mkdir()
    (results / "notes.txt").write_text("mine")
    for path in first.iterdir():
        path.chmod(0o444)
    first.chmod(0o555)

    process = run(program)
    first.chmod(0o755)
    assert process.returncode == 0, process.stderr
    warnings = own_lines(process.stderr)
    assert len(warnings) == 5
    for name in ("broken", "list", "binary", "other", "folder"):
        assert sum(f"/{name}/run.json is not in runs.csv" in line for line in warnings) == 1
    second = next(path for path in run_folders(program) if path.name[:2] == "20" and path != first)
    rows = read_csv(results / "runs.csv")
    assert [row["folder"] for row in rows] == ["reference", first.name, second.name]
    assert [row["A_NEW_ONE"] for row in rows] == ["5", "", ""]
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert (results / "notes.txt").read_text() == "mine"

    shutil.rmtree(first)
    assert run(program).returncode == 0
    rows = read_csv(results / "runs.csv")
    assert [row["folder"] for row in rows][:2] == ["reference", second.name]
    assert len(rows) == 3


def test_run_started_in_the_same_second_as_another(tmp_path):
    program = small_program(tmp_path)
    now = datetime.now()
    for second in range(60):  # whenever the run starts in these, its folder is there already
        (program / "results" / f"{now + timedelta(seconds=second):%Y-%m-%d_%H-%M-%S}").mkdir(
            parents=True
        )
    process = run(program)
    assert process.returncode == 0, process.stderr
    (folder,) = [path for path in run_folders(program) if list(path.iterdir())]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_2", folder.name)
    assert f"Results go to {folder}\n" in process.stdout


def test_two_runs_at_once(tmp_path):
    program = small_program(tmp_path, NB_EPOCH=20)
    processes = [start(program), start(program)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["folder"] for row in rows] == [path.name for path in run_folders(program)]
    assert [row["status"] for row in rows] == ["finished"] * 2
    assert rows[0]["test_score"] == rows[1]["test_score"] != ""
    for folder in run_folders(program):
        assert sorted(path.name for path in folder.iterdir()) == FILES
