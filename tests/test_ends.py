"""No end loses a finished epoch: Ctrl-C, divergence, errors, files that others hold."""

import re
from pathlib import Path

import command
import keras
import numpy as np
import pytest
from command import read_csv, read_run, read_runs

import train_mnist


def press_ctrl_c(model):
    raise KeyboardInterrupt


def spoil_weights(model):
    """Make the weights NaN, so that the loss is NaN from then on, on every processor."""
    model.set_weights([array * np.nan for array in model.get_weights()])


def in_epoch(monkeypatch, number, act):
    """Let act(model) be called when the epoch of this number, from 1, begins."""

    class ActingLogger(keras.callbacks.CSVLogger):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch + 1 == number:
                act(self.model)

    monkeypatch.setattr(keras.callbacks, "CSVLogger", ActingLogger)


def check_kept(results, epochs):
    """Check that history, record and model are those of these epochs, and nothing else is left."""
    folder, record = read_run(results)
    assert command.file_names(folder) == command.RECORDS
    history = read_csv(folder / "history.csv")
    assert record["epochs"] == epochs
    assert len(history) >= epochs
    assert record["val_loss"] == float(history[epochs - 1]["val_loss"])
    model = keras.saving.load_model(folder / "model.keras")
    assert int(model.optimizer.iterations) == 4 * epochs  # 400 samples by 128


def test_ctrl_c_keeps_the_finished_epochs(constants, tmp_path, monkeypatch):
    constants(NB_EPOCH=9)
    in_epoch(monkeypatch, 3, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    check_kept(tmp_path / "results", epochs=2)


def test_ctrl_c_is_recorded_as_interrupted(constants, tmp_path, monkeypatch):
    in_epoch(monkeypatch, 2, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    _, record = read_run(tmp_path / "results")
    (row,) = read_csv(tmp_path / "results" / "runs.csv")
    assert row["status"] == record["status"] == "interrupted"
    assert row["epochs"] == "1"


def test_ctrl_c_in_the_first_epoch(constants, tmp_path, monkeypatch):
    in_epoch(monkeypatch, 1, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    _, record = read_run(tmp_path / "results")
    assert record["status"] == "interrupted"
    assert record["epochs"] == 0


def test_ctrl_c_while_a_model_is_saved(constants, tmp_path, monkeypatch):
    """Its epoch does not count, and no half file is left."""
    constants(NB_EPOCH=9)
    build_model = train_mnist.build_model

    def build_pressing_model():
        model = build_model()
        save = model.save

        def save_and_press(path):
            if int(model.optimizer.iterations) == 12:  # after three epochs
                path.write_bytes(b"half a fi")
                raise KeyboardInterrupt
            save(path)

        model.save = save_and_press
        return model

    monkeypatch.setattr(train_mnist, "build_model", build_pressing_model)
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    check_kept(tmp_path / "results", epochs=2)


def test_ctrl_c_in_evaluate(constants, tmp_path, monkeypatch):
    """Without a validation part, fit does not evaluate."""

    class PressedModel(keras.Sequential):
        def evaluate(self, *arguments, **settings):
            raise KeyboardInterrupt

    monkeypatch.setattr(keras, "Sequential", PressedModel)
    constants(VALIDATION_SPLIT=0)
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    _, record = read_run(tmp_path / "results")
    assert record["status"] == "interrupted"
    assert record["epochs"] == 2


def test_ctrl_c_in_the_pictures_keeps_the_score(constants, tmp_path, monkeypatch):
    def draw_curves(history):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_mnist, "draw_curves", draw_curves)
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    _, record = read_run(tmp_path / "results")
    assert record["status"] == "finished"
    assert "test_accuracy" in record


def test_an_error_is_recorded_and_raised(constants, tmp_path, monkeypatch):
    in_epoch(monkeypatch, 2, lambda model: [][1])
    with pytest.raises(IndexError):
        train_mnist.main()
    check_kept(tmp_path / "results", epochs=1)
    _, record = read_run(tmp_path / "results")
    (row,) = read_csv(tmp_path / "results" / "runs.csv")
    assert row["status"] == record["status"] == "failed"
    assert record["error"] == "IndexError('list index out of range')"


def test_a_slip_in_a_picture_keeps_score_model_and_record(constants, tmp_path, monkeypatch):
    def draw_confusion(y_test, outputs):
        raise NameError("name 'conts' is not defined")

    monkeypatch.setattr(train_mnist, "draw_confusion", draw_confusion)
    with pytest.raises(NameError):
        train_mnist.main()
    folder, record = read_run(tmp_path / "results")
    assert record["status"] == "finished"
    assert "test_accuracy" in record
    assert command.file_names(folder) == ["curves.png", *command.RECORDS]


def test_divergence_ends_the_run_with_a_line(constants, monkeypatch, capsys):
    in_epoch(monkeypatch, 2, spoil_weights)
    assert train_mnist.main()["status"] == "diverged"
    told = capsys.readouterr().err
    advice = "at a learning rate of 0.01: try a smaller LEARNING_RATE"
    assert told == f"\nThe loss is nan {advice}\n"


def test_divergence_keeps_the_last_finite_epoch(constants, tmp_path, monkeypatch):
    constants(NB_EPOCH=9)
    in_epoch(monkeypatch, 3, spoil_weights)
    train_mnist.main()
    check_kept(tmp_path / "results", epochs=2)
    folder, _ = read_run(tmp_path / "results")
    assert len(read_csv(folder / "history.csv")) == 3
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    assert all(np.isfinite(array).all() for array in weights)


def test_divergence_is_neither_scored_nor_drawn(constants, tmp_path, monkeypatch):
    in_epoch(monkeypatch, 2, spoil_weights)
    train_mnist.main()
    folder, record = read_run(tmp_path / "results")
    assert "test_loss" not in record
    assert command.file_names(folder) == command.RECORDS


def test_a_val_loss_that_is_not_finite_is_divergence(constants):
    model = train_mnist.build_model()
    model.compile(optimizer="sgd", loss="mse")
    with pytest.raises(train_mnist.Diverged, match="The val_loss is inf at a learning rate"):
        train_mnist.check_loss(model, {"loss": 0.5, "val_loss": np.inf})


def test_divergence_in_the_last_step_is_seen_in_the_test_loss(constants, tmp_path):
    """The training loss is that of the weights before this step."""
    constants(NB_EPOCH=1, HIDDEN_LAYERS=1, LEARNING_RATE=1e30, BATCH_SIZE=500, VALIDATION_SPLIT=0)
    record = train_mnist.main()
    assert np.isfinite(record["loss"])
    assert record["status"] == "diverged"
    assert "test_loss" not in record


def test_a_loop_goes_on_after_divergence(constants, tmp_path):
    for rate in (1e20, None):
        constants(HIDDEN_LAYERS=1, LEARNING_RATE=rate)
        train_mnist.main()
    rows = read_csv(tmp_path / "results" / "runs.csv")
    assert [row["status"] for row in rows] == ["diverged", "finished"]


def test_a_run_starts_afresh_after_ctrl_c(constants, tmp_path, monkeypatch):
    expected = train_mnist.main()["loss"]
    with monkeypatch.context() as patch:
        in_epoch(patch, 2, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train_mnist.main()
    assert train_mnist.main()["loss"] == expected
    statuses = [record["status"] for _, record in read_runs(tmp_path / "results")]
    assert statuses == ["finished", "interrupted", "finished"]


def hold(monkeypatch, name, attempts):
    """Let the attempts of these numbers, from 1, to replace a file fail, as Windows locks it."""
    replace = Path.replace
    made = []

    def replace_unless_held(self, target):
        if Path(target).name == name:
            made.append(target)
            if len(made) in attempts:
                raise PermissionError(13, "Access is denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_unless_held)


def test_a_model_that_another_program_holds_is_told(constants, monkeypatch, capsys):
    hold(monkeypatch, "model.keras", attempts=[1])
    train_mnist.main()
    expected = r"Not written \(is it open in another program\?\): .*model.keras"
    assert re.search(expected, capsys.readouterr().err)


def test_a_later_save_works_and_the_record_has_the_last_epoch(constants, tmp_path, monkeypatch):
    hold(monkeypatch, "model.keras", attempts=[1])
    train_mnist.main()
    folder, record = read_run(tmp_path / "results")
    history = read_csv(folder / "history.csv")
    assert record["status"] == "finished"
    assert record["epochs"] == 2
    assert record["val_loss"] == float(history[-1]["val_loss"])
    model = keras.saving.load_model(folder / "model.keras")
    assert int(model.optimizer.iterations) == 8


def test_the_record_is_never_ahead_of_a_model_that_is_held(constants, tmp_path, monkeypatch):
    constants(NB_EPOCH=9)
    in_epoch(monkeypatch, 4, press_ctrl_c)
    hold(monkeypatch, "model.keras", attempts=[3])
    with pytest.raises(KeyboardInterrupt):
        train_mnist.main()
    check_kept(tmp_path / "results", epochs=2)


def test_the_last_save_must_work(constants, tmp_path, monkeypatch):
    hold(monkeypatch, "model.keras", attempts=[3])
    with pytest.raises(PermissionError):
        train_mnist.main()
    _, record = read_run(tmp_path / "results")
    assert record["status"] == "failed"


def test_a_run_json_that_another_program_holds_is_written_again(constants, tmp_path, monkeypatch):
    """Its first write is at the start, the second after the first epoch."""
    hold(monkeypatch, "run.json", attempts=[2])
    train_mnist.main()
    _, record = read_run(tmp_path / "results")
    assert record["status"] == "finished"
    assert record["epochs"] == 2


def test_a_table_that_excel_holds_is_told_and_the_run_is_finished(constants, monkeypatch, capsys):
    hold(monkeypatch, "runs.csv", attempts=[1])
    assert train_mnist.main()["status"] == "finished"
    assert "runs.csv" in capsys.readouterr().err
