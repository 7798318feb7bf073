"""Train a first neural network on MNIST's handwritten digits and evaluate it on the test set.

The first program of "Deep Learning with Keras" (A. Gulli and S. Pal, 2017), here "the listing",
for Keras 3. Its constants are in config.py; with the values as supplied, a run ends with

    Test score: 0.2773
    Test accuracy: 0.9223
"""

import argparse
import contextlib
import csv
import difflib
import hashlib
import json
import logging
import math
import os
import re
import runpy
import sys
import tempfile
import types
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent  # where config.py is, and where its relative paths start
SOURCE = Path(__file__).read_bytes()  # the code that runs, even if the file is edited meanwhile
if __name__ == "__main__":  # the command, or %run in a notebook
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # less of TensorFlow's log
    if "IPython" not in sys.modules:  # a notebook's backend, inherited, may not be installed here
        os.environ.pop("MPLBACKEND", None)
    # Read config.py anew, so that %run takes up an edit even where a cell has imported config.
    constants = runpy.run_path(str(HERE / "config.py"), run_name="config")
    module = sys.modules.setdefault("config", types.ModuleType("config"))
    vars(module).clear()
    vars(module).update(constants)

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout
from matplotlib.figure import Figure
from matplotlib.style import context

import config


def main():
    """Run the listing, in its order; return the run's record, a dict. Raises ConfigError."""
    check_constants()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(config.THREADS or 0))  # 0: TensorFlow's
    keras.utils.clear_session()  # so that the names of the layers count from the start again
    keras.utils.set_random_seed(config.SEED)  # for reproducibility

    # data: shuffled and split between train and test sets
    (X_train, y_train), (X_test, y_test) = load_data()
    # X_train is 60000 rows of 28x28 values --> reshaped in 60000 x 784
    X_train = X_train.reshape(len(X_train), config.RESHAPED)
    X_test = X_test.reshape(len(X_test), config.RESHAPED)
    X_train = X_train.astype("float32")
    X_test = X_test.astype("float32")
    # normalize
    X_train /= 255
    X_test /= 255
    print(X_train.shape[0], "train samples")
    print(X_test.shape[0], "test samples")
    # convert class vectors to binary class matrices
    Y_train = keras.utils.to_categorical(y_train, config.NB_CLASSES)
    Y_test = keras.utils.to_categorical(y_test, config.NB_CLASSES)

    model = build_model()
    model.summary()
    model.compile(loss=config.LOSS, optimizer=build_optimizer(), metrics=config.METRICS)
    model.steps_per_execution = config.STEPS_PER_EXECUTION  # compile's go into model.keras

    with Run() as run:  # a Keras callback that records this run in a folder of its own
        try:
            history = model.fit(
                X_train,
                Y_train,
                batch_size=config.BATCH_SIZE,
                epochs=config.NB_EPOCH,
                verbose=config.VERBOSE,
                validation_split=config.VALIDATION_SPLIT,
                callbacks=[keras.callbacks.CSVLogger(run.folder / "history.csv", append=True), run],
            )
        except KeyboardInterrupt:  # go back to the last finished epoch
            if run.record["epochs"] == 0:
                raise
            print(f"\nInterrupted: back to the end of epoch {run.record['epochs']}")
            run.record["status"] = "interrupted"
            model.load_weights(run.folder / "model.keras")
            history = model.history
        score = model.evaluate(X_test, Y_test, verbose=config.VERBOSE, return_dict=True)
        run.finish(model, score)
        print(f"Test score: {score.pop('loss'):.4f}")
        for name, value in score.items():  # Test accuracy, unless the metrics are others
            print(f"Test {name}:", *[f"{each:.4f}" for each in np.ravel(value)])
        if run.record["status"] != "diverged":
            draw_pictures(run, history, model, X_test, y_test)
    return run.record


class ConfigError(ValueError):
    """Mistakes in config.py or in the data, a line for each."""


CODE = re.sub(r"(?m)^ *#.*", "", SOURCE.decode())  # without lines that are commented out
USED = set(re.findall(r"\bconfig\.([A-Z]\w*)", CODE))  # the constants of this script
LIMITS = {  # what each number must be: its kind, the least and the greatest value
    "SEED": ("whole number", 0, 2**32 - 1),
    "RESHAPED": ("whole number", 1, 10**9),
    "NB_CLASSES": ("whole number", 2, 10**9),
    "VALIDATION_SPLIT": ("number", 0, 0.999),
    "HIDDEN_LAYERS": ("whole number", 0, 10**9),
    "N_HIDDEN": ("whole number", 1, 10**9),
    "DROPOUT": ("number", 0, 0.999),
    "NB_EPOCH": ("whole number", 1, 10**9),
    "BATCH_SIZE": ("whole number", 1, 10**9),
    "LEARNING_RATE": ("number (or None)", 1e-30, 1e30),
    "STEPS_PER_EXECUTION": ("whole number", 1, 10**9),
    "THREADS": ("whole number (or None)", 1, 1024),
    "VERBOSE": ("whole number", 0, 2),
}


def check_constants():
    """Raise ConfigError if a constant is missing, misspelt or a number out of its limits."""
    faults = [f"{name} is missing" for name in sorted(USED - vars(config).keys())]
    for name, value in vars(config).items():
        if isinstance(value, np.generic):  # Keras asks for Python's numbers
            value = vars(config)[name] = value.item()
        imported = callable(value) or isinstance(value, types.ModuleType)
        if name in LIMITS:
            kind, least, most = LIMITS[name]
            is_number = type(value) is int or (type(value) is float and "whole" not in kind)
            is_default = value is None and "None" in kind
            if not is_default and not (is_number and least <= value <= most):
                faults.append(f"{name} = {value!r:.80}: it must be a {kind} from {least} to {most}")
        elif name not in USED and not imported and not name.startswith("_"):
            for near in difflib.get_close_matches(name.upper(), USED, n=1):
                faults.append(f"{name} is not used by train_mnist.py, which uses {near}")
    if faults:
        raise ConfigError("\n".join(f"{config.__file__}: {fault}" for fault in faults))


def load_data():
    """Load the data that DATA_PATH names, or Keras's MNIST if that is None; raise ConfigError.

    Returns (X_train, y_train), (X_test, y_test): uint8 (n, ...), of RESHAPED values; integers (n,).
    """
    source = f"{config.__file__}: DATA_PATH = {str(config.DATA_PATH)!r}"
    try:
        if config.DATA_PATH is None:
            train, test = keras.datasets.mnist.load_data()
        else:
            with np.load(HERE / Path(config.DATA_PATH).expanduser(), allow_pickle=False) as arrays:
                train, test = [(arrays[f"x_{p}"], arrays[f"y_{p}"]) for p in ("train", "test")]
    except Exception as error:  # no such file, cut short, an array missing, no network, ...
        raise ConfigError(f"{source} ('data/mnist.npz' is bundled): {error!r}") from error
    expected = f"uint8, RESHAPED = {config.RESHAPED} values each, labels below {config.NB_CLASSES}"
    for part, (X, y) in (("train", train), ("test", test)):
        if X.dtype != "uint8" or X.size != len(X) * config.RESHAPED or X.size == 0:
            raise ConfigError(f"{source}: x_{part} is {X.dtype} {X.shape}, not {expected}")
        wrong = np.setdiff1d(y, range(config.NB_CLASSES)).tolist()
        if y.shape != X.shape[:1] or wrong:
            raise ConfigError(f"{source}: y_{part} is {y.shape}, with {wrong[:9]}, not {expected}")
    return train, test


def build_model():
    """Build the network: HIDDEN_LAYERS of Dense(N_HIDDEN), ReLU and DROPOUT, Dense and softmax.

    It maps pixels, float32 (n, RESHAPED) from 0 to 1, to probabilities, float32 (n, NB_CLASSES).
    """
    model = keras.Sequential()
    model.add(keras.Input(shape=(config.RESHAPED,)))
    for _ in range(config.HIDDEN_LAYERS):
        model.add(Dense(config.N_HIDDEN))
        model.add(Activation("relu"))
        if config.DROPOUT > 0:
            model.add(Dropout(config.DROPOUT))
    # 10 outputs
    # final stage is softmax
    model.add(Dense(config.NB_CLASSES))
    model.add(Activation("softmax"))
    return model


def build_optimizer():
    """Return a new optimizer as OPTIMIZER says, at LEARNING_RATE unless that is None."""
    given = keras.optimizers.get(config.OPTIMIZER)
    optimizer = type(given).from_config(given.get_config())  # without an earlier run's state
    if config.LEARNING_RATE is not None:
        optimizer.learning_rate = config.LEARNING_RATE
    return optimizer


class Run(keras.callbacks.Callback):
    """Record a run in a folder of its own, from `with Run() as run:` to however that ends."""

    def __init__(self):
        super().__init__()
        self.start = datetime.now().astimezone()
        results = HERE / Path(config.RESULTS_DIR).expanduser()
        self.folder = results / f"{self.start:%Y-%m-%d_%H-%M-%S-%f}"
        self.latest = {"epochs": 0}  # the last epoch trained; self.record has the last one saved
        data = config.DATA_PATH and (HERE / Path(config.DATA_PATH).expanduser()).read_bytes()
        self.record = {
            "start": self.start.isoformat(timespec="seconds"),
            "constants": {name: value for name, value in vars(config).items() if name in USED},
            "python": sys.version.split()[0],
            "keras": keras.__version__,
            "backend": keras.config.backend(),
            "backend_version": sys.modules[keras.config.backend()].__version__,
            "numpy": np.__version__,
            "device": str(keras.ops.zeros(1).device),
            "data_sha256": data and hashlib.sha256(data).hexdigest(),  # None: Keras's own MNIST
            "script_sha256": hashlib.sha256(SOURCE).hexdigest(),
            "status": "unfinished",
            "epochs": 0,
        }

    def __enter__(self):
        self.folder.mkdir(parents=True)
        self.write_record()
        self.write(self.folder.parent / "runs.csv", self.write_runs)
        print("Results are in", self.folder)
        return self

    def on_epoch_end(self, epoch, logs):
        """Save the model, then record the epoch; stop the training if it diverged."""
        self.latest = {"epochs": self.latest["epochs"] + 1, **logs}
        if not math.isfinite(logs["loss"] + logs.get("val_loss", 0)):
            self.record["status"] = "diverged"
            self.model.stop_training = True
        elif self.write(self.folder / "model.keras", self.model.save):
            self.record |= self.latest
            self.write_record()

    def finish(self, model, score):
        """Record evaluate's score, a dict, and save the model that was scored."""
        if self.record["status"] == "diverged" or not math.isfinite(score["loss"]):
            self.record["status"] = "diverged"
            rate = float(model.optimizer.learning_rate)
            logging.error(f"The loss diverged at a learning rate of {rate:g}: try a smaller one")
            return
        self.record.pop("not_written", None)  # each file is written again from here on
        if self.record["status"] != "interrupted":
            self.record |= {"status": "finished", **self.latest}
        self.record |= {f"test_{'score' if k == 'loss' else k}": v for k, v in score.items()}
        self.write(self.folder / "model.keras", model.save)
        self.write_record()

    def __exit__(self, kind, error, traceback):
        if error:
            self.record["status"] = "interrupted" if kind is KeyboardInterrupt else "failed"
            self.record["error"] = f"{kind.__name__}: {error}"
        self.write_record()
        self.write(self.folder.parent / "runs.csv", self.write_runs)

    def write_record(self):
        """Write run.json."""
        self.record["seconds"] = (datetime.now().astimezone() - self.start).total_seconds()
        text = json.dumps(self.record, indent=2, default=describe)
        self.record = json.loads(text)  # main returns what the file has
        self.write(self.folder / "run.json", lambda new: new.write_text(text + "\n", "utf-8"))

    def write_runs(self, path):
        """Write a CSV file with a row for each run.json in the folders beside this run's."""
        rows = []
        for file in sorted(self.folder.parent.glob("*/run.json")):
            with contextlib.suppress(Exception):  # not a run's record: skip it
                record = json.loads(file.read_text("utf-8"))
                rows.append({"folder": file.parent.name, **record.pop("constants"), **record})
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
            writer.writeheader()
            writer.writerows(rows)

    def write(self, path, save):
        """Save to a temporary path, then rename it: never half a file. Return True if it worked."""
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, ignore_cleanup_errors=True) as folder:
                new = Path(folder, path.name)
                save(new)
                new.replace(path)
            return True
        except OSError as error:
            logging.warning(f"{path} cannot be written: {error.strerror or error}")
            self.record.setdefault("not_written", {})[path.name] = str(error)
            return False


def describe(value):
    """Return what JSON can hold of a function, a class, a Keras object, an array or a path."""
    if hasattr(value, "__name__"):
        return value.__name__
    if hasattr(value, "get_config"):
        return {type(value).__name__: value.get_config()}
    return value.tolist() if hasattr(value, "tolist") else str(value)


def draw_pictures(run, history, model, X_test, y_test):
    """Draw a run's pictures; X_test is square images, float32 from 0 to 1, y_test is integers."""
    outputs = model.predict(X_test, batch_size=1000, verbose=0)
    pictures = {
        "curves.png": lambda: draw_curves(history),
        "confusion.png": lambda: draw_confusion(y_test, outputs),
        "mistakes.png": lambda: draw_mistakes(X_test, y_test, outputs),
        "weights.png": lambda: draw_weights(model),
    }
    with context("default"):  # matplotlib's own style, whatever matplotlibrc says
        for name, draw in pictures.items():
            try:
                run.write(run.folder / name, draw().savefig)
            except Exception:  # a picture that does not fit an edited network
                logging.exception(f"{name} cannot be drawn")


def draw_curves(history):
    """Draw the loss and each metric of one value over the epochs, training and validation."""
    names = [n for n, values in history.history.items() if np.ndim(values) == 1 and n[:4] != "val_"]
    epochs = [epoch + 1 for epoch in history.epoch]
    figure = Figure(figsize=(5.5 * len(names), 4), dpi=120, layout="constrained")
    for position, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), position, xlabel="epoch", ylabel=name)
        for prefix, label, line in (("", "training", ".-"), ("val_", "validation", ".--")):
            if len(history.history.get(prefix + name, [])) == len(epochs):
                axes.plot(epochs, history.history[prefix + name], line, ms=3, label=label)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.legend()
    return figure


def draw_confusion(y_test, outputs):
    """Draw how often each label (row) was taken for each class (column)."""
    n = config.NB_CLASSES
    counts = np.zeros((n, n), int)
    np.add.at(counts, (y_test, outputs.argmax(axis=1)), 1)
    side = min(max(6, 0.6 * n), 24)  # inches
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="label", xticks=range(n), yticks=range(n))
    axes.set_title(f"{counts.trace():,} of {len(y_test):,} right (empty: 0)")
    axes.imshow(counts**0.25, cmap="Blues", alpha=0.6)  # the power shows single mistakes, too
    for row, column in np.argwhere(counts):
        axes.text(column, row, counts[row, column], ha="center", va="center")
    return figure


def draw_mistakes(X_test, y_test, outputs):
    """Draw the 24 most confident mistakes."""
    predicted, confidence = outputs.argmax(axis=1), outputs.max(axis=1)
    wrong = np.flatnonzero(predicted != y_test)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    title = f"{len(wrong):,} mistakes on the test set: the {len(shown)} most confident"
    titles = [f"{y_test[i]} taken for {predicted[i]}\noutput {confidence[i]:.3f}" for i in shown]
    return draw_images(title, X_test[shown], titles, cmap="gray_r", vmin=0, vmax=1)


def draw_weights(model):
    """Draw the weights of the first layer's neurons or filters, 24 of them at most."""
    layers = [layer for layer in model.layers if layer.weights]
    weights = np.moveaxis(layers[0].get_weights()[0], -1, 0)  # by neuron or filter
    shown, limit = weights[:24], np.abs(weights).max()
    title = f"Weights of {layers[0].name}, {len(shown)} of {len(weights)}: white > 0, black < 0"
    titles = [f"{'class' if len(layers) == 1 else 'neuron'} {n}" for n in range(len(shown))]
    return draw_images(title, shown, titles, cmap="gray", vmin=-limit, vmax=limit)


def draw_images(title, images, titles, **look):
    """Draw up to 24 square images, each under its title; images of any shape (n, ...)."""
    rows = max(1, math.ceil(len(images) / 6))
    figure = Figure(figsize=(9, 0.5 + 1.75 * rows), dpi=120, layout="constrained")
    figure.suptitle(title)
    for position, (image, label) in enumerate(zip(images, titles, strict=True), 1):
        axes = figure.add_subplot(rows, 6, position, title=label, xticks=[], yticks=[])
        axes.imshow(image.reshape(math.isqrt(image.size), -1), **look)
    return figure


if __name__ == "__main__":
    if Path(sys.argv[0]).name == Path(__file__).name:  # not in VS Code's interactive window
        argparse.ArgumentParser(usage="%(prog)s (no arguments: edit config.py)").parse_args()
    try:
        record = main()
    except (ConfigError, KeyboardInterrupt) as error:
        sys.exit(str(error) or "Interrupted")
    if record["status"] != "finished" or "not_written" in record:
        sys.exit(1)
