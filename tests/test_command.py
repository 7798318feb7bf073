"""The whole command as people use it: run, edit the constants, edit the script, call main."""

import re
import shutil
import sys

import command
import pytest
from command import copy_program, own_lines, read_run, run, small_program

# nobody answers there, so whatever asks for the network fails
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


def test_output_in_order_from_another_folder_without_network(tmp_path):
    folder = copy_program(tmp_path / "program", NB_EPOCH=3, VERBOSE=2, DATA_PATH="data/mnist.npz")
    (folder / "data").mkdir()
    shutil.copy(command.MNIST, folder / "data")
    process = run(folder, cwd=tmp_path, KERAS_HOME=str(tmp_path / "keras"), **NO_NETWORK)
    assert own_lines(process) == []
    lines = process.stdout.splitlines()
    assert lines[:2] == ["60000 train samples", "10000 test samples"]
    expected = [
        r"Model: \"sequential\"",
        r" Total params: 7,850 ",
        r"Epoch 1/3",
        r"375/375 - .* - accuracy: 0\.\d+ - loss: .* - val_accuracy: 0\.\d+ - val_loss: ",
        r"Epoch 2/3",
        r"Epoch 3/3",
        r"375/375 - ",
        r"313/313 - ",
        rf"Results are in {re.escape(str(read_run(folder)[0]))}$",
        r"Test score: 0\.5\d{3}$",
        r"Test accuracy: 0\.8[678]\d{2}$",
    ]
    rest = iter(lines[2:])
    for pattern in expected:
        assert any(re.match(pattern, line) for line in rest), f"no {pattern} in its place"
    assert next(rest, None) is None  # the accuracy is the last line


@pytest.mark.parametrize("loss, low", [("mean_squared_error", 0.4), ("binary_crossentropy", 0.7)])
def test_the_other_losses_and_metrics(tmp_path, loss, low):
    constants = {"NB_EPOCH": 2, "LOSS": loss, "METRICS": ["recall", "accuracy", "precision"]}
    process = run(copy_program(tmp_path / "program", LEARNING_RATE=0.1, **constants))
    found = {k: float(v) for k, v in re.findall(r"^Test (\w+): (\S+)$", process.stdout, re.M)}
    assert list(found) == ["score", "accuracy", "precision", "recall"]  # as Keras orders them
    assert 0 < found["score"] < 0.2  # of either loss; categorical cross-entropy would be above it
    recall, accuracy = found["recall"], found["accuracy"]
    assert accuracy > low and recall <= accuracy <= found["precision"] < 1


def test_usage_points_to_config(tmp_path):
    folder = copy_program(tmp_path / "program")
    assert "edit config.py" in run(folder, "-h").stdout
    assert "unrecognized arguments: --epochs" in run(folder, "--epochs", exits=2).stderr


def test_inherited_matplotlib_backend_does_not_matter(tmp_path):
    run(small_program(tmp_path), MPLBACKEND="module://matplotlib_inline.backend_inline")
    command.check_pictures(read_run(tmp_path / "program")[0])


def test_console_that_lacks_characters(tmp_path):
    program = small_program(tmp_path, RESULTS_DIR="results/手書き", VERBOSE=1)
    process = run(program, PYTHONIOENCODING="cp1252")
    assert "???" in process.stdout and "Test accuracy: " in process.stdout
    assert (program / "results" / "手書き" / "runs.csv").exists()


def test_home_folder_in_both_paths(tmp_path):
    program = small_program(tmp_path, DATA_PATH="~/digits.npz", RESULTS_DIR="~/program/results")
    run(program, HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    assert read_run(program)[1]["status"] == "finished"


def test_constants_of_a_run_are_those_of_its_start(tmp_path):
    """The copy's config.py tells when it has been read; -I keeps its folder from Python's path."""
    program = small_program(tmp_path, SEED=1)
    with open(program / "config.py", "a") as file:
        file.write("open(__file__ + '.read', 'w').close()\n")
    process = command.start(program, command=[sys.executable, "-I", "train_mnist.py"])
    command.wait_until((program / "config.py.read").exists, process)
    command.edit_config(program, SEED=2)
    assert command.finish(process).returncode == 0
    assert read_run(program)[1]["constants"]["SEED"] == 1


def test_error_in_the_script_is_told_with_its_line(tmp_path):
    program = small_program(tmp_path)
    command.edit_script(program, "    # 10 outputs\n", "    model.add(Dropput(0.3))\n")
    stderr = run(program, exits=1).stderr
    assert 'train_mnist.py", line ' in stderr and "    model.add(Dropput(0.3))\n" in stderr
    assert "NameError: name 'Dropput' is not defined" in stderr


LOOP = """
import config, train_mnist
for seed, rate in enumerate([0.1, 0.1, None, None, 1e20, 1.0], 1):
    config.SEED, config.LEARNING_RATE = seed, rate
    if seed == 2:
        config.LERNING_RATE = 0.1
    try:
        print("returned", train_mnist.main())
    except SystemExit as end:
        print("returned", end)
        del config.LERNING_RATE
"""


def test_loop_of_six_settings(tmp_path):
    """The second is misspelt, the fourth is interrupted, the fifth diverges."""
    program = small_program(tmp_path, NB_EPOCH=4, HIDDEN_LAYERS=1)
    stop = "config.SEED == 4 and n == 1 and signal.raise_signal(signal.SIGINT)"
    command.add_callback(program, f"keras.callbacks.LambdaCallback(None, lambda n, logs: {stop})")
    process = run(program, command=[sys.executable, "-c", LOOP])
    first, misspelt, *others = re.findall(r"^returned (.*)", process.stdout, re.M)
    assert misspelt.startswith("config.py: LERNING_RATE is unknown. Did you mean LEARNING_RATE?")
    assert [first, *others] == ["0", "0", "130", "1", "0"]
    stopping, diverged = [line for line in own_lines(process) if "tensorflow" not in line]
    assert "Stopping after this epoch" in stopping and "rate of 1e+20" in diverged
    rows = command.read_csv(program / "results" / "runs.csv")
    found = [(row["SEED"], row["status"], row["test_accuracy"] > "0") for row in rows]
    assert found[:2] == [("1", "finished", True), ("3", "finished", True)]
    assert found[2:4] == [("4", "interrupted", True), ("5", "diverged", False)]
    assert found[4:] == [("6", "finished", True)]


@pytest.mark.parametrize("line, error", [("SEED = seed", "NameError"), ("SEED = (", "SyntaxError")])
def test_error_in_config_is_told_with_its_line(tmp_path, line, error):
    program = small_program(tmp_path)
    (program / "config.py").write_text("\n" + line + "\n")
    stderr = run(program, exits=1).stderr
    assert 'config.py", line 2' in stderr and f"    {line}\n" in stderr and f"\n{error}: " in stderr


def test_saved_model_is_the_scored_one_after_early_stopping(tmp_path):
    """The loss is lowest after an early epoch, whose weights come back as the training ends."""
    program = small_program(tmp_path, NB_EPOCH=20, LEARNING_RATE=2.0)
    stopping = 'keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)'
    command.add_callback(program, stopping)
    run(program)
    folder, record = read_run(program)
    assert record["status"] == "finished" and record["epochs"] < 20
    loss, _ = command.evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test_score"], rel=1e-5)
