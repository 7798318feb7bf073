"""The whole command, as a user runs it."""

import re

import pytest
from command import copy_program, own_lines, run

# nobody answers there, so whatever asks for the network fails
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


def figures(stdout):
    """Return the figures of the last lines, {"score": ..., "accuracy": ...}, in their order."""
    return {k: float(v) for k, v in re.findall(r"^Test (\w+): (\d+\.\d{4})$", stdout, re.MULTILINE)}


def test_output_in_order_from_another_folder_without_network(tmp_path):
    folder = copy_program(tmp_path / "program", NB_EPOCH=3, VERBOSE=2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = run(folder, cwd=elsewhere, KERAS_HOME=str(tmp_path / "keras"), **NO_NETWORK)
    assert process.returncode == 0, process.stderr
    assert own_lines(process.stderr) == []
    lines = process.stdout.splitlines()
    assert lines[:2] == ["60000 train samples", "10000 test samples"]
    expected = [
        r"Model: ",
        r" Total params: 7,850 ",
        rf"Results go to {re.escape(str(folder))}/results/\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d$",
        r"Epoch 1/3",
        r"375/375 - .* - accuracy: 0\.\d+ - loss: .* - val_accuracy: 0\.\d+ - val_loss: ",
        r"Epoch 2/3",
        r"Epoch 3/3",
        r"375/375 - ",
        r"313/313 - ",
        r"Test score: \d\.\d{4}$",
        r"Test accuracy: 0\.\d{4}$",
    ]
    rest = iter(lines[2:])
    for pattern in expected:
        assert any(re.match(pattern, line) for line in rest), f"no {pattern} in its place"
    assert next(rest, None) is None  # the accuracy is the last line
    assert 0.86 < figures(process.stdout)["accuracy"] < 0.89
    assert 0.50 < figures(process.stdout)["score"] < 0.62


def test_quiet_run_still_prints_counts_and_results(tmp_path):
    process = run(copy_program(tmp_path / "program", NB_EPOCH=1, VERBOSE=0))
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[:2] == ["60000 train samples", "10000 test samples"]
    assert re.match(r"Test score: 0\.\d{4}$", lines[-2])
    assert re.match(r"Test accuracy: 0\.\d{4}$", lines[-1])
    assert not any(line.startswith(("Epoch", "375/375", "313/313")) for line in lines)


@pytest.mark.parametrize("loss, low", [("mean_squared_error", 0.4), ("binary_crossentropy", 0.7)])
def test_the_other_losses_and_metrics(tmp_path, loss, low):
    metrics = ["accuracy", "precision", "recall"]
    constants = {"NB_EPOCH": 2, "VERBOSE": 0, "LOSS": loss, "METRICS": metrics}
    process = run(copy_program(tmp_path / "program", LEARNING_RATE=0.1, **constants))
    assert process.returncode == 0, process.stderr
    found = figures(process.stdout)
    assert list(found) == ["score", *metrics]
    assert found["accuracy"] > low
    assert 0 < found["score"] < 0.2  # of either loss; categorical cross-entropy would be above it
    assert found["recall"] <= found["accuracy"] <= found["precision"] < 1


def test_hidden_layers_without_validation_in_one_huge_batch(tmp_path):
    constants = {"HIDDEN_LAYERS": 2, "VALIDATION_SPLIT": 0, "BATCH_SIZE": 100000, "NB_EPOCH": 2}
    process = run(copy_program(tmp_path / "program", VERBOSE=2, **constants))
    assert process.returncode == 0, process.stderr
    assert " Total params: 118,282 " in process.stdout
    assert len(re.findall(r"^1/1 - ", process.stdout, re.MULTILINE)) == 2
    assert "val_" not in process.stdout
    assert list(figures(process.stdout)) == ["score", "accuracy"]


def test_help_points_to_config(tmp_path):
    process = run(copy_program(tmp_path / "program"), "-h")
    assert process.returncode == 0
    assert "edit config.py" in process.stdout
    assert process.stderr == ""
