"""Train a first neural network on MNIST's handwritten digits and evaluate it on the test set.

The first program of "Deep Learning with Keras" (A. Gulli and S. Pal, 2017), here "the listing",
for Keras 3. Its constants are in config.py; with the values as supplied, a run ends with

    Test score: 0.2773
    Test accuracy: 0.9223
"""

import csv
import hashlib
import importlib
import json
import math
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path
from zipfile import BadZipFile

# Read script and constants before the slow imports: later edits are for the next run.
SOURCE = Path(__file__).read_bytes()

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hide most of TensorFlow's log
    if "IPython" not in sys.modules:
        # a notebook's !python hands on MPLBACKEND, which may name what is not installed here
        os.environ.pop("MPLBACKEND", None)
    if "config" in sys.modules:  # %run in a notebook that has imported it, maybe before an edit
        importlib.reload(sys.modules["config"])

import config

HERE = Path(__file__).resolve().parent  # where the relative paths of config.py start

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout
from matplotlib import style
from matplotlib.figure import Figure


def main():
    """Run the listing: load, train, evaluate, draw. Return the run's record, a dict.

    Raises ConfigError if constants or data cannot be right. A run that diverges raises nothing.
    """
    warn_of_unused_constants()
    check_constants()
    keras.utils.clear_session()  # layers are named from the start again: dense, not dense_1
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
    # set here, as compile's arguments are saved in model.keras: this one is not for later uses
    model.steps_per_execution = config.STEPS_PER_EXECUTION

    with Run() as run:  # records how the block ends; swallows Diverged, and no other exception
        history_csv = keras.callbacks.CSVLogger(
            run.folder / "history.csv",
            append=True,  # a second fit, if you add one, adds its epochs
        )
        history = model.fit(
            X_train,
            Y_train,
            batch_size=config.BATCH_SIZE,
            epochs=config.NB_EPOCH,
            verbose=config.VERBOSE,
            validation_split=config.VALIDATION_SPLIT,
            callbacks=[history_csv, run],  # in this order: each epoch in run.json has its row
        )
        score = model.evaluate(X_test, Y_test, verbose=config.VERBOSE, return_dict=True)
        run.record_score(model, score)
        print("Test score:", np.round(score["loss"], 4))
        for name, value in score.items():
            if name != "loss":
                print(f"Test {name}:", np.round(value, 4))  # Test accuracy, and other METRICS

    if run.record["status"] == "finished":  # if it diverged, there is nothing to draw
        draw_pictures(run.folder, history, model, X_test, y_test)
    return run.record


# ------------------------------------ constants ------------------------------------


class ConfigError(ValueError):
    """Constants or data that cannot be right, a line for each."""


def warn_of_unused_constants():
    """Print a line for each constant that this script does not use: its name may be misspelt."""
    # A name that both files hold only once is set, but not used.
    text = SOURCE.decode() + Path(config.__file__).read_text("utf-8")
    for name in constants():
        if len(re.findall(rf"\b{name}\b", text)) < 2:
            print(f"{config.__file__}: {name} is not used by train_mnist.py", file=sys.stderr)


def constants():
    """Return what config.py defines in capitals, a dict, without classes (an imported SGD)."""
    return {
        name: value
        for name, value in vars(config).items()
        if name.isupper() and not isinstance(value, type)
    }


LIMITS = {  # what each number must be: its type, its least and its greatest value
    "SEED": (Integral, 0, 2**32 - 1),
    "RESHAPED": (Integral, 1, math.inf),
    "NB_CLASSES": (Integral, 2, math.inf),
    "VALIDATION_SPLIT": (Real, 0, 0.999),
    "HIDDEN_LAYERS": (Integral, 0, math.inf),
    "N_HIDDEN": (Integral, 1, math.inf),
    "DROPOUT": (Real, 0, 0.999),
    "NB_EPOCH": (Integral, 1, math.inf),
    "BATCH_SIZE": (Integral, 1, math.inf),
    "LEARNING_RATE": (Real, 1e-30, 1e30),  # or None, or a schedule
    "STEPS_PER_EXECUTION": (Integral, 1, math.inf),
    "VERBOSE": (Integral, 0, 2),
}


def check_constants():
    """Raise ConfigError if numbers are out of their limits, with a line for each."""
    faults = []
    for name, (number_type, least, greatest) in LIMITS.items():
        value = getattr(config, name)
        if name == "LEARNING_RATE" and (value is None or callable(value)):
            continue
        if not isinstance(value, number_type) or not least <= value <= greatest:
            noun = "whole number" if number_type is Integral else "number"
            limits = f"{least} or more" if greatest == math.inf else f"from {least} to {greatest}"
            faults.append(f"{name} = {value!r}: it must be a {noun}, {limits}")
    if faults:
        raise ConfigError("\n".join(f"{config.__file__}: {fault}" for fault in faults))


# -------------------------------------- data ---------------------------------------


def load_data():
    """Load the .npz file that DATA_PATH names, or Keras's own MNIST if it is None.

    Returns (X_train, y_train), (X_test, y_test): uint8 images (n, ...) of RESHAPED values each,
    and their labels, integers (n,) from 0 to NB_CLASSES - 1. Raises ConfigError if they are not.
    """
    source = f"{config.__file__}: DATA_PATH = {config.DATA_PATH!r}"
    if config.DATA_PATH is None:
        (X_train, y_train), (X_test, y_test) = keras.datasets.mnist.load_data()
    else:
        try:
            with np.load(path_of(config.DATA_PATH), allow_pickle=False) as arrays:
                X_train = arrays["x_train"]
                y_train = arrays["y_train"]
                X_test = arrays["x_test"]
                y_test = arrays["y_test"]
        except (OSError, EOFError, BadZipFile, ValueError, KeyError) as error:
            raise ConfigError(f"{source}: {error} ('data/mnist.npz' is bundled)") from error
    check_images(f"{source}: x_train", X_train)
    check_images(f"{source}: x_test", X_test)
    check_labels(f"{source}: y_train", y_train, len(X_train))
    check_labels(f"{source}: y_test", y_test, len(X_test))
    return (X_train, y_train), (X_test, y_test)


def check_images(name, X):
    """Raise ConfigError unless X is uint8 images of RESHAPED values."""
    if X.dtype != np.uint8 or len(X) == 0 or X[0].size != config.RESHAPED:
        expected = f"uint8 images of RESHAPED = {config.RESHAPED} values"
        raise ConfigError(f"{name} is {X.dtype} {X.shape}, not {expected}")


def check_labels(name, y, n):
    """Raise ConfigError unless y is n whole numbers from 0 to NB_CLASSES - 1."""
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (n,):
        raise ConfigError(f"{name} is {y.dtype} {y.shape}, not {n} whole numbers")
    if y.min() < 0 or y.max() >= config.NB_CLASSES:
        expected = f"from 0 to NB_CLASSES - 1 = {config.NB_CLASSES - 1}"
        raise ConfigError(f"{name} has labels from {y.min()} to {y.max()}, not {expected}")


# ------------------------------------- network -------------------------------------


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
    model.add(Dense(config.NB_CLASSES))  # an output for each digit
    model.add(Activation("softmax"))  # final stage is softmax
    return model


def build_optimizer():
    """Return a new optimizer as OPTIMIZER says, at LEARNING_RATE unless that is None."""
    given = keras.optimizers.get(config.OPTIMIZER)
    # a copy: an object in config.py would keep the state of an earlier run
    optimizer = type(given).from_config(given.get_config())
    if config.LEARNING_RATE is not None:
        optimizer.learning_rate = config.LEARNING_RATE
    return optimizer


# ------------------------------------- record --------------------------------------


class Diverged(ArithmeticError):
    """The loss became NaN or infinite."""


# by the type of the exception that ended a run; any other: "failed"
STATUSES = {None: "finished", KeyboardInterrupt: "interrupted", Diverged: "diverged"}


class Run(keras.callbacks.Callback):
    """Keep a run in a folder of its own: its model and its record.

    As a callback of fit, it saves each finished epoch. As a `with`, it records how its block
    ended: finished, interrupted (Ctrl-C), diverged, or failed (any other exception); unfinished
    means running or killed. It prints and swallows Diverged, so that a loop of runs goes on.
    """

    def __enter__(self):
        self.start = datetime.now().astimezone()
        self.folder = path_of(config.RESULTS_DIR) / f"{self.start:%Y-%m-%d_%H-%M-%S-%f}"
        self.record = first_record(self.start)  # what run.json has
        self.latest = {"epochs": 0}  # figures that go into the record once their model is saved
        self.folder.mkdir(parents=True)
        self.write_record()
        print("Results are in", self.folder)
        return self

    def on_epoch_end(self, epoch, logs):
        """Save an epoch; raise Diverged if its loss is NaN or infinite."""
        check_loss(self.model, logs)
        self.latest.update(logs, epochs=self.latest["epochs"] + 1)  # in a second fit, epoch is 0
        with tell_if_locked():
            self.keep(self.model)

    def record_score(self, model, score):
        """Record evaluate's score, a dict, and save the model that got it: the best, if restored.

        Raises Diverged if the loss is NaN or infinite, OSError if the model cannot be saved.
        """
        check_loss(model, score)
        for name, value in score.items():
            self.latest[f"test_{name}"] = value
        self.keep(model)  # not excused if locked: a score needs its model

    def keep(self, model):
        """Save the model, then record its figures: run.json is never ahead of model.keras."""
        with atomic_write(self.folder / "model.keras") as new:
            model.save(new)
        self.record.update(self.latest)
        self.write_record()

    def __exit__(self, error_type, error, traceback):
        self.record["status"] = STATUSES.get(error_type, "failed")
        if error is not None:
            self.record["error"] = repr(error)
        self.write_record()
        with tell_if_locked():
            write_runs(self.folder.parent)
        if error_type is Diverged:
            print(f"\n{error}", file=sys.stderr)
        return error_type is Diverged  # True: the exception goes no further

    def write_record(self):
        """Write run.json."""
        self.record["seconds"] = (datetime.now().astimezone() - self.start).total_seconds()
        text = json.dumps(self.record, indent=2, default=plain)
        with atomic_write(self.folder / "run.json") as new:
            new.write_text(text + "\n", "utf-8")


def first_record(start):
    """Return the record of a run that starts now, a dict."""
    data_sha256 = None  # for Keras's own MNIST, whose hash Keras checks
    if config.DATA_PATH is not None:
        data_sha256 = hashlib.sha256(path_of(config.DATA_PATH).read_bytes()).hexdigest()
    backend = keras.config.backend()
    return {
        "start": start.isoformat(timespec="seconds"),
        "constants": constants(),
        "python": sys.version.split()[0],
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": importlib.import_module(backend).__version__,
        "numpy": np.__version__,
        "device": str(keras.ops.zeros(1).device),
        "data_sha256": data_sha256,
        "script_sha256": hashlib.sha256(SOURCE).hexdigest(),
        "status": "unfinished",
        "epochs": 0,
    }


def check_loss(model, logs):
    """Raise Diverged if the loss or val_loss of logs is NaN or infinite."""
    for name in ("loss", "val_loss"):
        if name in logs and not math.isfinite(logs[name]):
            rate = f"a learning rate of {float(model.optimizer.learning_rate):g}"
            raise Diverged(f"The {name} is {logs[name]} at {rate}: try a smaller LEARNING_RATE")


def write_runs(results):
    """Write runs.csv, a table with a row for each run.json in the folders of results."""
    rows = []
    for path in sorted(results.glob("*/run.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            values = record.pop("constants")
            rows.append({"folder": path.parent.name} | values | record)
        except (ValueError, TypeError, KeyError):  # not a run's record
            continue
    columns = dict.fromkeys(name for row in rows for name in row)  # each once, in order
    with (
        atomic_write(results / "runs.csv") as new,
        new.open("w", newline="", encoding="utf-8") as file,  # closed first, then renamed
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def atomic_write(path):
    """Yield a temporary path, then rename it to path, so that a kill never leaves half a file."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # goes after an error, too
        new = Path(folder) / path.name
        yield new
        new.replace(path)


@contextmanager
def tell_if_locked():
    """Print a PermissionError instead of raising it: Excel, for one, locks what it has open."""
    try:
        yield
    except PermissionError as error:
        print(f"\nNot written (is it open in another program?): {error}", file=sys.stderr)


def path_of(path):
    """Return a path of config.py as a Path: ~ is the home folder, a relative one starts at HERE."""
    return HERE / Path(path).expanduser()


def plain(value):
    """Return what JSON can hold of an object: its settings, its numbers or its text."""
    if hasattr(value, "get_config"):  # of Keras
        return {type(value).__name__: value.get_config()}
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    return str(value)


# ------------------------------------ pictures -------------------------------------


def draw_pictures(folder, history, model, X_test, y_test):
    """Draw a run's pictures; X_test is square images, float32 from 0 to 1, y_test is integers."""
    outputs = model.predict(X_test, batch_size=1000, verbose=0)
    with style.context("default"):  # whatever the user's matplotlibrc says
        draw_curves(history).savefig(folder / "curves.png")
        draw_confusion(y_test, outputs).savefig(folder / "confusion.png")
        draw_mistakes(X_test, y_test, outputs).savefig(folder / "mistakes.png")
        draw_weights(model).savefig(folder / "weights.png")


def draw_curves(history):
    """Draw the loss and each metric over the epochs, training and validation."""
    values = history.history
    names = []
    for name in values:
        if not name.startswith("val_") and np.ndim(values[name]) == 1:  # not a value a class
            names.append(name)
    epochs = [epoch + 1 for epoch in history.epoch]
    figure = Figure(figsize=(5.5 * len(names), 4), dpi=120, layout="constrained")
    row = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(row, names, strict=True):
        axes.plot(epochs, values[name], ".-", markersize=3, label="training")
        if f"val_{name}" in values:
            axes.plot(epochs, values[f"val_{name}"], ".--", markersize=3, label="validation")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
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
    axes.set_title(f"{counts.trace():,} of {len(y_test):,} right")
    axes.imshow(counts**0.25, cmap="Blues", alpha=0.6)  # the fourth root shows single mistakes, too
    for row, column in np.argwhere(counts):
        axes.text(column, row, counts[row, column], ha="center", va="center")
    return figure


def draw_mistakes(X_test, y_test, outputs):
    """Draw the 24 most confident mistakes."""
    predicted = outputs.argmax(axis=1)
    confidence = outputs.max(axis=1)
    wrong = np.flatnonzero(predicted != y_test)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    title = f"{len(wrong):,} mistakes on the test set: the {len(shown)} most confident"
    titles = [f"{y_test[i]} taken for {predicted[i]}\noutput {confidence[i]:.3f}" for i in shown]
    return draw_images(title, X_test[shown], titles, cmap="gray_r", vmin=0, vmax=1)


def draw_weights(model):
    """Draw the weights of the first layer's neurons or filters, 24 of them at most."""
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    kernel = keras.ops.convert_to_numpy(layers[0].kernel)
    weights = np.moveaxis(kernel, -1, 0)  # by neuron or filter
    shown = weights[:24]
    title = f"Weights of {layers[0].name}, {len(shown)} of {len(weights)}: blue > 0, red < 0"
    unit = "class" if len(layers) == 1 else "neuron"
    titles = [f"{unit} {number}" for number in range(len(shown))]
    limit = np.abs(weights).max()
    return draw_images(title, shown, titles, cmap="RdBu", vmin=-limit, vmax=limit)


def draw_images(title, images, titles, **look):
    """Draw up to 24 square images (n, ...), each under its title; look is for imshow."""
    rows = max(1, math.ceil(len(images) / 6))
    figure = Figure(figsize=(9, 0.5 + 1.75 * rows), dpi=120, layout="constrained")
    figure.suptitle(title)
    for position, (image, label) in enumerate(zip(images, titles, strict=True), 1):
        side = math.isqrt(image.size)
        axes = figure.add_subplot(rows, 6, position, title=label, xticks=[], yticks=[])
        axes.imshow(image.reshape(side, side), **look)
    return figure


if __name__ == "__main__":
    try:
        record = main()
    except ConfigError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nInterrupted")
    if record["status"] != "finished":
        sys.exit(1)
