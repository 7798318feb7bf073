"""What each run leaves in the results folder."""

import json
import re
import sys
from importlib.metadata import version

import command
import keras
import numpy as np
import pytest
from command import FILES, MNIST, own_lines, read_csv, read_run, run, small_program

import config
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
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", folder.name)
    assert command.file_names(folder) == FILES
    assert command.file_names(program / "results") == [folder.name, "runs.csv"]
    command.check_pictures(folder)
    (row,) = read_csv(program / "results" / "runs.csv")
    figures = ["accuracy", "loss", "val_accuracy", "val_loss", "test_accuracy", "test_score"]
    names = list(record["constants"])
    assert list(row)[: 1 + len(names)] == ["folder", *names] and list(row)[-6:] == figures
    assert row["script_sha256"] == record["script_sha256"]
    assert row["folder"] == folder.name and row["status"] == "finished" and row["epochs"] == "2"
    assert [float(row[name]) for name in figures] == [record[name] for name in figures]
    assert row["METRICS"] == "['accuracy']"
    # so that whoever loads the model gets predictions of any size, on any backend
    assert keras.saving.load_model(folder / "model.keras").steps_per_execution == 1


def test_record_of_a_run(finished):
    program, folder, record, stdout = finished
    assert record["status"] == "finished" and record["epochs"] == 2 and "error" not in record
    assert re.fullmatch(rf"{folder.name[:10]}T\d\d:\d\d:\d\d[+-]\d\d:\d\d", record["start"])
    assert 1 < record["seconds"] < 600
    assert set(record["constants"]) >= set(command.SUPPLIED)
    assert record["constants"]["NB_EPOCH"] == 2 and record["constants"]["METRICS"] == ["accuracy"]
    backend = keras.config.backend()
    versions = [keras.__version__, backend, version(backend), np.__version__]
    found = [record[name] for name in ("keras", "backend", "backend_version", "numpy")]
    assert found == versions and record["python"] == sys.version.split()[0]
    assert re.search("[CG]PU:0", record["device"])
    assert record["data_sha256"] == command.sha256(MNIST)
    assert record["script_sha256"] == command.sha256(program / "train_mnist.py")
    score, accuracy = record["test_score"], record["test_accuracy"]
    assert stdout.endswith(f"Test score: {score:.4f}\nTest accuracy: {accuracy:.4f}\n")
    last = read_csv(folder / "history.csv")[-1]
    assert all(float(last[name]) == record[name] for name in last if name != "epoch")


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
    own = {"precision": 0.5}  # of an edited script
    own["constants"] = record["constants"] | {"A_NEW_ONE": 5}
    for name, other in {"0 killed": killed, "reference": record | own}.items():
        (results / name).mkdir()
        (results / name / "run.json").write_text(json.dumps(other), "utf-8")
    run(program)
    rows = read_csv(results / "runs.csv")
    names = [row["folder"] for row in rows]
    assert names == ["0 killed", first.name, command.run_folders(program)[1].name, "reference"]
    assert [row["precision"] for row in rows] == ["", "", "", "0.5"]
    assert rows[3]["A_NEW_ONE"] == "5"
    assert list(rows[0]).index("accuracy") > list(rows[0]).index("seconds")


def test_two_runs_at_the_same_time_have_a_folder_each(tmp_path, monkeypatch):
    for name, value in {**command.SUPPLIED, "RESULTS_DIR": str(tmp_path)}.items():
        monkeypatch.setattr(config, name, value, raising=False)
    folders = [train_mnist.Run().folder for _ in range(20)]
    assert sorted(set(folders)) == folders and all(folder.is_dir() for folder in folders)
