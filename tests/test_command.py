"""The whole command as people use it: run, edit the constants, edit the script."""

import re
import shutil
import sys

import command
import keras
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
        rf"Results are in {re.escape(str(read_run(folder)[0]))}$",
        r"Epoch 1/3",
        r"375/375 - .* - accuracy: 0\.\d+ - loss: .* - val_accuracy: 0\.\d+ - val_loss: ",
        r"Epoch 2/3",
        r"Epoch 3/3",
        r"375/375 - ",
        r"313/313 - ",
        r"Test score: 0\.5\d{3}$",
        r"Test accuracy: 0\.8[678]\d{2}$",
    ]
    rest = iter(lines[2:])
    for pattern in expected:
        assert any(re.match(pattern, line) for line in rest), f"no {pattern} in its place"
    assert next(rest, None) is None  # the accuracy is the last line
    assert re.match(expected[-3], lines[-3])  # and only the two lines of the score follow evaluate


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


def test_home_folder_and_an_inherited_matplotlib_backend(tmp_path):
    """This matplotlib does not know the backend, which another Python's notebook left."""
    program = small_program(tmp_path, DATA_PATH="~/digits.npz", RESULTS_DIR="~/program/results")
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    run(program, MPLBACKEND="widget", **home)
    command.check_pictures(read_run(program)[0])


def test_constants_of_a_run_are_those_of_its_start(tmp_path):
    """The copy's config.py tells when it has been read; -I keeps its folder from Python's path."""
    program = small_program(tmp_path, SEED=1)
    with open(program / "config.py", "a") as file:
        file.write("import sys\nassert 'keras' not in sys.modules  # before the slow imports\n")
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


@pytest.mark.parametrize("line, error", [("SEED = seed", "NameError"), ("SEED = (", "SyntaxError")])
def test_error_in_config_is_told_with_its_line(tmp_path, line, error):
    program = small_program(tmp_path)
    (program / "config.py").write_text("\n" + line + "\n")
    stderr = run(program, exits=1).stderr
    assert 'config.py", line 2' in stderr and f"    {line}\n" in stderr and f"\n{error}: " in stderr


def test_saved_model_is_the_scored_one_after_the_best_was_loaded(tmp_path):
    """The loss is lowest after the first epochs, at a rate at which it then goes up and down."""
    program = small_program(tmp_path, NB_EPOCH=9, LEARNING_RATE=2.0, HIDDEN_LAYERS=1)
    best = "keras.callbacks.ModelCheckpoint('best.keras', 'val_loss', save_best_only=True)"
    command.add_callback(program, best)
    scored = "        score = model.evaluate"
    load = "        model = keras.saving.load_model('best.keras')\n"
    command.edit_script(program, scored, load + scored)
    run(program)
    folder, record = read_run(program)
    loss, _ = command.evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test_score"], rel=1e-5)
    assert loss == pytest.approx(command.evaluate(program / "best.keras")[0])
    losses = [float(row["val_loss"]) for row in command.read_csv(folder / "history.csv")]
    assert min(losses) < losses[-1]


def test_a_constant_of_ones_own_and_a_second_fit(tmp_path):
    """The constant is set and used, and so recorded; every fit adds its rows."""
    program = small_program(tmp_path, MOMENTUM=0.5)
    given, fit = "    if config.LEARNING_RATE", "            history = model.fit("
    command.edit_script(program, given, f"    optimizer.momentum = config.MOMENTUM\n{given}")
    again = "model.fit(X_train, Y_train, verbose=0, validation_split=0.2, callbacks=[run, csv])"
    csv = "csv = keras.callbacks.CSVLogger(run.folder / 'history.csv', append=True)"
    command.edit_script(program, fit, f"            {csv}\n            {again}\n{fit}")
    run(program)
    folder, record = read_run(program)
    rows = command.read_csv(folder / "history.csv")
    assert [row["epoch"] for row in rows] == ["0", "0", "1"] and record["epochs"] == 3
    assert record["val_loss"] == float(rows[2]["val_loss"])
    assert record["constants"]["MOMENTUM"] == 0.5
    assert keras.saving.load_model(folder / "model.keras").optimizer.momentum == 0.5
