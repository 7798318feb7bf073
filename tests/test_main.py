"""What main() does, run in the test's own process: records, loops, edits, objects in config."""

import json
import threading

import command
import keras
import numpy as np
import pytest
from command import read_csv, read_run, read_runs

import config
import train_mnist


def test_main_returns_the_record(constants, tmp_path):
    record = train_mnist.main()
    _, written = read_run(tmp_path / "results")
    assert record["val_accuracy"] == written["val_accuracy"]
    assert record["test_accuracy"] == written["test_accuracy"]
    assert record["status"] == written["status"] == "finished"


def test_the_saved_model_is_the_scored_one(constants, tmp_path):
    record = train_mnist.main()
    folder, _ = read_run(tmp_path / "results")
    score = [record["test_loss"], record["test_accuracy"]]
    assert command.evaluate(folder / "model.keras") == pytest.approx(score, rel=1e-5)


def test_the_saved_model_is_the_scored_one_after_early_stopping(constants, tmp_path, monkeypatch):
    """At this rate the loss goes up and down, and the last epoch is not the best."""
    constants(NB_EPOCH=9, LEARNING_RATE=2.0, HIDDEN_LAYERS=1)

    class StoppingLogger(keras.callbacks.CSVLogger):
        """Give the model the weights of its second epoch after the last."""

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == 1:
                self.best = self.model.get_weights()

        def on_train_end(self, logs=None):
            super().on_train_end(logs)
            self.model.set_weights(self.best)

    monkeypatch.setattr(keras.callbacks, "CSVLogger", StoppingLogger)
    record = train_mnist.main()
    folder, _ = read_run(tmp_path / "results")
    loss, _ = command.evaluate(folder / "model.keras")
    assert loss == pytest.approx(record["test_loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_figures(constants):
    first = train_mnist.main()
    second = train_mnist.main()
    assert first["loss"] == second["loss"]
    assert first["test_loss"] == second["test_loss"]


def test_another_seed_gives_other_figures(constants):
    first = train_mnist.main()
    constants(SEED=1)
    assert train_mnist.main()["loss"] != first["loss"]


def test_a_loops_layers_keep_their_names(constants, capsys):
    train_mnist.main()
    train_mnist.main()
    assert "dense_1" not in capsys.readouterr().out


def test_a_loops_runs_have_a_row_each(constants, tmp_path):
    for seed in (1, 2, 3):
        constants(SEED=seed)
        train_mnist.main()
    rows = read_csv(tmp_path / "results" / "runs.csv")
    assert [row["SEED"] for row in rows] == ["1", "2", "3"]
    assert [row["folder"] for row in rows] == [f.name for f, _ in read_runs(tmp_path / "results")]


def test_main_in_a_thread(constants, tmp_path):
    thread = threading.Thread(target=train_mnist.main)
    thread.start()
    thread.join()
    _, record = read_run(tmp_path / "results")
    assert record["status"] == "finished"


def test_runs_in_quick_succession_have_folders_of_their_own(constants, tmp_path):
    for _ in range(20):
        with train_mnist.Run():
            pass
    assert len(read_csv(tmp_path / "results" / "runs.csv")) == 20


def test_a_foreign_or_broken_run_json_is_skipped(constants, tmp_path):
    for number, text in enumerate(['{"status": "fin', '{"start": 5}', "[]", '{"constants": null}']):
        (tmp_path / "results" / str(number)).mkdir(parents=True)
        (tmp_path / "results" / str(number) / "run.json").write_text(text)
    with train_mnist.Run() as run:
        pass
    (row,) = read_csv(tmp_path / "results" / "runs.csv")
    assert row["folder"] == run.folder.name


def test_runs_of_other_constants_share_the_table(constants, tmp_path):
    other = {"constants": {"A_NEW_ONE": 5}, "test_precision": 0.5}  # of an edited script
    (tmp_path / "results" / "other").mkdir(parents=True)
    (tmp_path / "results" / "other" / "run.json").write_text(json.dumps(other))
    with train_mnist.Run():
        pass
    own, edited = read_csv(tmp_path / "results" / "runs.csv")
    assert (edited["A_NEW_ONE"], edited["test_precision"], edited["SEED"]) == ("5", "0.5", "")
    assert (own["A_NEW_ONE"], own["test_precision"], own["SEED"]) == ("", "", "1671")


def test_paths_may_start_at_home(constants, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    constants(RESULTS_DIR="~/at home")
    with train_mnist.Run():
        pass
    assert (tmp_path / "at home" / "runs.csv").exists()


def test_relative_paths_start_beside_the_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_mnist.path_of("results") == command.ROOT / "results"


def test_other_metrics_are_printed_and_recorded(constants, capsys):
    constants(METRICS=["accuracy", "precision"])
    record = train_mnist.main()
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.rpartition(":")[0] for line in lines] == [
        "Test score",
        "Test accuracy",
        "Test precision",
    ]
    assert "test_precision" in record


def test_a_metric_of_many_values(constants, tmp_path, capsys):
    constants(METRICS=["f1_score"])
    train_mnist.main()
    folder, record = read_run(tmp_path / "results")
    assert len(record["test_f1_score"]) == 10
    assert "Test f1_score: [" in capsys.readouterr().out
    assert command.file_names(folder) == command.FILES


def test_no_metrics(constants, capsys):
    constants(METRICS=[])
    assert train_mnist.main()["status"] == "finished"
    assert capsys.readouterr().out.splitlines()[-1].startswith("Test score: ")


def test_no_validation(constants, tmp_path):
    constants(VALIDATION_SPLIT=0)
    record = train_mnist.main()
    folder, _ = read_run(tmp_path / "results")
    assert "val_loss" not in record
    assert command.file_names(folder) == command.FILES


def test_two_hidden_layers(constants, tmp_path):
    constants(HIDDEN_LAYERS=2, N_HIDDEN=32, NB_CLASSES=60)
    train_mnist.main()
    folder, _ = read_run(tmp_path / "results")
    model = keras.saving.load_model(folder / "model.keras")
    assert model.count_params() == 784 * 32 + 32 + 32 * 32 + 32 + 32 * 60 + 60


@pytest.mark.parametrize("loss, highest", [("mean_squared_error", 0.1), ("binary_crossentropy", 1)])
def test_another_loss(constants, loss, highest):
    """Categorical cross-entropy would be above 1."""
    constants(LOSS=loss)
    assert 0 < train_mnist.main()["test_loss"] < highest


def test_the_books_optimizer_object_starts_afresh_in_each_run(constants):
    constants(OPTIMIZER=keras.optimizers.SGD(0.5, momentum=0.5))
    first = train_mnist.main()
    assert train_mnist.main()["loss"] == first["loss"]


def test_learning_rate_is_the_optimizers(constants):
    constants(LEARNING_RATE=0.25)
    assert float(train_mnist.build_optimizer().learning_rate) == 0.25


def test_learning_rate_may_be_a_schedule(constants, tmp_path):
    constants(LEARNING_RATE=keras.optimizers.schedules.ExponentialDecay(0.1, 100, 0.5))
    train_mnist.main()
    _, record = read_run(tmp_path / "results")
    schedule = record["constants"]["LEARNING_RATE"]["ExponentialDecay"]
    assert schedule["initial_learning_rate"] == 0.1


def test_objects_are_recorded_by_their_settings(constants, tmp_path):
    constants(
        DATA_PATH=command.MNIST,
        OPTIMIZER=keras.optimizers.SGD(0.5, momentum=0.5),
        LOSS=keras.losses.CategoricalCrossentropy(),
        METRICS=["accuracy", keras.metrics.Recall()],
        LEARNING_RATE=np.float32(0.5),
    )
    with train_mnist.Run():
        pass
    recorded = read_run(tmp_path / "results")[1]["constants"]
    assert recorded["DATA_PATH"] == str(command.MNIST)
    assert recorded["OPTIMIZER"]["SGD"]["momentum"] == 0.5
    assert list(recorded["LOSS"]) == ["CategoricalCrossentropy"]
    assert list(recorded["METRICS"][1]) == ["Recall"]
    assert recorded["LEARNING_RATE"] == 0.5


def test_a_class_that_config_imports_is_not_a_constant(constants, capsys):
    constants(SGD=keras.optimizers.SGD)
    train_mnist.warn_of_unused_constants()
    assert "SGD" not in train_mnist.constants()
    assert capsys.readouterr().err == ""


def test_a_constant_of_ones_own_is_recorded(constants):
    constants(MOMENTUM=0.5)
    with train_mnist.Run() as run:
        pass
    assert run.record["constants"]["MOMENTUM"] == 0.5


def test_numpys_numbers_train(constants):
    constants(LEARNING_RATE=np.float32(0.5), NB_EPOCH=np.int64(1), BATCH_SIZE=np.int64(64))
    assert train_mnist.main()["epochs"] == 1


def test_another_network(constants, tmp_path, monkeypatch):
    """A convolution, after layers that have no kernel."""

    def build_model():
        return keras.Sequential(
            [
                keras.Input((784,)),
                keras.layers.BatchNormalization(),
                keras.layers.Reshape((28, 28, 1)),
                keras.layers.Conv2D(4, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(config.NB_CLASSES, activation="softmax"),
            ]
        )

    monkeypatch.setattr(train_mnist, "build_model", build_model)
    train_mnist.main()
    folder, record = read_run(tmp_path / "results")
    assert record["status"] == "finished"
    assert command.file_names(folder) == command.FILES
