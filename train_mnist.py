"""Train a first neural network on MNIST's handwritten digits and evaluate it on the test set.

The first listing of "Deep Learning with Keras" (A. Gulli and S. Pal, 2017), for Keras 3. Its
constants are in config.py; with the values as supplied, a run ends with

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
import runpy
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # less of TensorFlow's log
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # faster for products as small as these
if "IPython" not in sys.modules:  # a notebook's backend, inherited, may not be installed here
    os.environ.pop("MPLBACKEND", None)

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout
from matplotlib.figure import Figure

import config

keras.config.set_floatx("float32")  # as in the listing, whatever keras.json says
keras.config.set_epsilon(1e-7)
HERE = Path(__file__).resolve().parent  # where the relative paths of config.py start


def main():
    """Load, scale, encode, build, compile, fit, evaluate: the listing, in its order."""
    keras.utils.set_random_seed(config.SEED)  # for reproducibility

    # data: shuffled and split between train and test sets
    (X_train, y_train), (X_test, y_test) = load_data()
    run = Run(image_shape=X_test.shape[1:])  # the record, in a folder of its own
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
    model.compile(
        loss=config.LOSS,
        optimizer=build_optimizer(),
        metrics=config.METRICS,
        steps_per_execution=steps_per_execution(len(X_train), len(X_test)),
    )
    history = model.fit(
        X_train,
        Y_train,
        batch_size=config.BATCH_SIZE,
        epochs=config.NB_EPOCH,
        verbose=config.VERBOSE,
        validation_split=config.VALIDATION_SPLIT,
        callbacks=[keras.callbacks.CSVLogger(run.folder / "history.csv"), run],
    )
    score = model.evaluate(X_test, Y_test, verbose=config.VERBOSE, return_dict=True)
    print(f"Test score: {score['loss']:.4f}")
    print("\n".join(f"Test {name}: {score[name]:.4f}" for name in config.METRICS))

    run.finish(score)
    draw_pictures(run, history, model, X_test, y_test)
    return run.exit_code  # 0, or 128 plus the number of the signal that ended the training


def load_data():
    """Load the data that DATA_PATH names, or let Keras download MNIST if that is None.

    Returns (X_train, y_train), (X_test, y_test): images, uint8 from 0 to 255 of shape (n, 28, 28)
    or any other with RESHAPED values each, and labels, integers from 0 to NB_CLASSES - 1 of shape
    (n,). Exits with one line if they are not to be had or of another kind.
    """
    source = f"config.py: DATA_PATH = {str(config.DATA_PATH)!r}"
    try:
        if config.DATA_PATH is None:
            train, test = keras.datasets.mnist.load_data()
        else:
            with np.load(HERE / Path(config.DATA_PATH).expanduser(), allow_pickle=False) as arrays:
                train, test = [(arrays[f"x_{p}"], arrays[f"y_{p}"]) for p in ("train", "test")]
    except Exception as error:  # no such file, cut short, an array missing, no network, ...
        sys.exit(f"{source} cannot be read: {error!r}; the bundled data is 'data/mnist.npz'")
    for part, (X, y) in (("train", train), ("test", test)):
        if X.dtype != "uint8" or X.size != len(X) * config.RESHAPED or X.size == 0:
            right = f"uint8 with RESHAPED = {config.RESHAPED} values for each image"
            sys.exit(f"{source}: x_{part} is {X.dtype} of shape {X.shape}, not {right}")
        if y.dtype.kind not in "iu" or y.shape != X.shape[:1]:
            right = f"an integer for each of {len(X)} images"
            sys.exit(f"{source}: y_{part} is {y.dtype} of shape {y.shape}, not {right}")
        if y.min() < 0 or y.max() >= config.NB_CLASSES:
            right = f"from 0 to below NB_CLASSES = {config.NB_CLASSES}"
            sys.exit(f"{source}: y_{part} goes from {y.min()} to {y.max()}, not {right}")
    X_train, y_train = train
    kept = math.floor(len(X_train) * (1 - config.VALIDATION_SPLIT))  # fit holds out the last ones
    if unseen := np.setdiff1d(y_train[kept:], y_train[:kept]).tolist():
        logging.warning(f"{source}: only the last part, held out, has the classes {unseen}")
    if X_train.max() < 128:
        logging.warning(f"{source}: x_train goes up to {X_train.max()}, and 255 is expected")
    return train, test


def build_model():
    """Build the network: HIDDEN_LAYERS of Dense(N_HIDDEN), ReLU and DROPOUT, Dense and softmax.

    It maps float32 of shape (n, RESHAPED), from 0 to 1, to float32 of shape (n, NB_CLASSES), the
    probabilities. The listing's network has 784 x 10 weights and 10 biases, 7,850 parameters.
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
    """Return the optimizer that OPTIMIZER names, at its default rate if LEARNING_RATE is None."""
    optimizer = keras.optimizers.get(config.OPTIMIZER)
    if config.LEARNING_RATE is not None:
        optimizer.learning_rate = config.LEARNING_RATE
    return optimizer


def steps_per_execution(n_train, n_test):
    """Return STEPS_PER_EXECUTION, or the steps of an epoch or of evaluate (32 each) if fewer."""
    most = 1 if keras.config.backend() == "torch" else config.STEPS_PER_EXECUTION  # torch: only 1
    steps = math.ceil(n_train * (1 - config.VALIDATION_SPLIT) / config.BATCH_SIZE)
    return min(most, steps, math.ceil(n_test / 32))  # larger values overflow Keras's progress bar


class Run(keras.callbacks.Callback):
    """Record a run in its own folder; have Ctrl-C or SIGTERM stop the training after an epoch."""

    def __init__(self, image_shape):
        """Make the folder and start run.json; image_shape, of one image, is for the pictures."""
        super().__init__()
        self.image_shape = image_shape
        self.folder = make_folder(HERE / Path(config.RESULTS_DIR).expanduser())
        self.clock = time.monotonic()
        self.diverged = False
        self.stopped_by = None  # the number of a signal
        self.exit_code = 0
        self.old_handlers = contextlib.ExitStack()
        backend = keras.config.backend()
        # get_file finds what Keras has downloaded
        data = HERE / Path(config.DATA_PATH or keras.utils.get_file("mnist.npz", "")).expanduser()
        self.record = {
            "start": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "constants": {name: getattr(config, name) for name in ALLOWED},
            "python": sys.version.split()[0],
            "versions": {n: sys.modules[n].__version__ for n in ("keras", backend, "numpy")},
            "device": str(keras.ops.zeros(1).device).rpartition("device:")[2],  # CPU:0
            "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
            "script_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        }
        self.write_record("unfinished")

    def on_train_begin(self, logs=None):
        """Take over the signals, except one that is ignored, as under nohup."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                old = signal.signal(number, self.on_signal)
                self.old_handlers.callback(signal.signal, number, old)

    def on_signal(self, number, frame):
        """Stop the training after this epoch; leave a second signal to the old handler."""
        self.stopped_by = number
        self.old_handlers.close()
        with contextlib.suppress(Exception):  # a console that is gone must not end the epoch
            print("\nStopping after this epoch; once more quits at once.", file=sys.stderr)

    def on_epoch_end(self, epoch, logs=None):
        """Save the model; stop the training after a signal or, without saving, if it diverged."""
        self.diverged = not math.isfinite(logs["loss"] + logs.get("val_loss", 0))
        if not self.diverged:
            self.record |= {"epochs": epoch + 1, **logs}
            write(self.folder / "model.keras", self.model.save)
        if self.diverged or self.stopped_by:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Put the old signal handlers back, and say where the results are."""
        self.old_handlers.close()
        print("Results are in", self.folder, flush=True)

    def finish(self, score):
        """Complete the record with evaluate's score, a dict, and save the model that was scored."""
        self.record["seconds"] = round(time.monotonic() - self.clock, 1)
        if self.diverged or not math.isfinite(score["loss"]):
            self.write_record("diverged")
            sys.exit(f"The loss diverged: LEARNING_RATE = {config.LEARNING_RATE} is too large")
        stopped = self.stopped_by and self.record["epochs"] < self.params["epochs"]
        self.exit_code = 128 + self.stopped_by if stopped else 0
        self.record |= {f"test_{'score' if k == 'loss' else k}": v for k, v in score.items()}
        self.write_record("interrupted" if stopped else "finished")
        write(self.folder / "model.keras", self.model.save)  # a callback may have changed it

    def write_record(self, status):
        """Write run.json and, in the folder above, runs.csv."""
        text = json.dumps({"status": status, **self.record}, indent=2, default=str) + "\n"
        write(self.folder / "run.json", lambda new: new.write_text(text, "utf-8"))
        write(self.folder.parent / "runs.csv", write_runs)


def make_folder(results):
    """Make a folder in the folder results, named by the time; wait while a run has that name."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        while True:
            folder = results / time.strftime("%Y-%m-%d_%H-%M-%S")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
            time.sleep(0.1)
    except (OSError, ValueError) as error:
        sys.exit(f"config.py: RESULTS_DIR = {str(config.RESULTS_DIR)!r} cannot be used: {error}")


def write(path, save):
    """Save to a new file, then rename it to path, so that a kill never leaves half a file."""
    new = path.with_name(f"new-{os.getpid()}-{path.name}")
    try:
        save(new)
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        sys.exit(f"{path} cannot be written: {error}")


def write_runs(path):
    """Write a CSV file with a row for each run.json in the folders beside it, ordered by name."""
    columns = ["folder", "start", "status", "epochs", "seconds", "accuracy", "loss"]
    columns += ["val_accuracy", "val_loss", "test_accuracy", "test_score", *ALLOWED]
    with open(path, "w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for record in sorted(path.parent.glob("*/run.json")):
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not of this program
                run = json.loads(record.read_text("utf-8"))
                writer.writerow({"folder": record.parent.name, **run, **run["constants"]})


def draw_pictures(run, history, model, X_test, y_test):
    """Draw a run's pictures; X_test is float32 from 0 to 1, y_test integers of shape (n,)."""
    draw_curves(run, history)
    probabilities = model.predict(X_test, batch_size=1000, verbose=0)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    draw_confusion(run, y_test, predicted)
    shape = [size for size in run.image_shape if size > 1]
    side = math.isqrt(config.RESHAPED)
    if shape == [side * side]:  # an image stored as a row
        shape = [side, side]
    if len(shape) != 2:
        logging.warning(f"no mistakes.png, weights.png: cannot show images of {run.image_shape}")
        return
    wrong = np.flatnonzero(predicted != y_test)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    title = f"{len(wrong):,} mistakes on the test set: the {len(shown)} most confident"
    titles = [f"{y_test[i]} taken for {predicted[i]}\np = {confidence[i]:.3f}" for i in shown]
    images = X_test[shown].reshape(-1, *shape)
    draw_images(run, "mistakes.png", title, images, titles, cmap="gray_r", vmin=0, vmax=1)
    weights = model.get_weights()[0]
    if weights.shape[:-1] == (config.RESHAPED,):  # not if the script builds another first layer
        limit = np.abs(weights).max()
        title = "Weights of the first layer: white is positive, black negative, grey zero"
        images = weights.T[:24].reshape(-1, *shape)
        look = {"cmap": "gray", "vmin": -limit, "vmax": limit}
        draw_images(run, "weights.png", title, images, range(24), **look)


def draw_curves(run, history):
    """Draw each metric and the loss over the epochs, of training and validation."""
    names = [name for name in history.history if not name.startswith("val_")]
    rows, columns = math.ceil(len(names) / 3), min(3, len(names))
    epochs = [epoch + 1 for epoch in history.epoch]
    figure = Figure(figsize=(5.5 * columns, 4 * rows), layout="constrained")
    for position, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, position, xlabel="epoch", ylabel=name)
        for prefix, label, style in (("", "training", "-"), ("val_", "validation", "--")):
            if prefix + name in history.history:
                marker = "." if len(epochs) < 20 else None
                axes.plot(epochs, history.history[prefix + name], style, marker=marker, label=label)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    save_picture(figure, run, "curves.png")


def draw_confusion(run, y_test, predicted):
    """Draw how often each label (row) was taken for each class (column)."""
    n = config.NB_CLASSES
    counts = np.zeros((n, n), int)
    np.add.at(counts, (y_test, predicted), 1)
    side = min(max(6, 0.6 * n), 24)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="label", xticks=range(n), yticks=range(n))
    axes.set_title(f"Test accuracy {counts.trace() / len(y_test):.4f} (empty: 0)")
    axes.imshow(counts**0.4, cmap="Blues")  # the power shows a few mistakes beside a thousand hits
    for row, column in np.argwhere(counts):
        colour = "white" if counts[row, column] > counts.max() / 6 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    save_picture(figure, run, "confusion.png")


def draw_images(run, name, title, images, titles, **look):
    """Draw up to 24 images of shape (height, width), each under its title."""
    rows = max(1, math.ceil(len(images) / 6))
    figure = Figure(figsize=(9, 0.5 + 1.75 * rows), layout="constrained")
    figure.suptitle(title)
    for position, (image, label) in enumerate(zip(images, titles, strict=False), 1):
        axes = figure.add_subplot(rows, 6, position)
        axes.imshow(image, **look)
        axes.set_title(label, fontsize=10)
        axes.axis("off")
    save_picture(figure, run, name)


def save_picture(figure, run, name):
    """Write a picture to the run's folder, with the folder's name on it."""
    figure.text(0.995, 0.005, run.folder.name, ha="right", va="bottom", size=7, color="gray")
    write(run.folder / name, lambda new: figure.savefig(new, dpi=120))


MOST = 2**31 - 1  # what 32-bit sizes hold
# Each constant of config.py: its type and, for a number, the least and the greatest value.
ALLOWED = {
    "SEED": (int, 0, 2**32 - 1),
    "DATA_PATH": (str | Path | None,),
    "RESHAPED": (int, 1, MOST),
    "NB_CLASSES": (int, 2, MOST),
    "VALIDATION_SPLIT": (int | float, 0, 0.999),
    "HIDDEN_LAYERS": (int, 0, MOST),
    "N_HIDDEN": (int, 1, MOST),
    "DROPOUT": (int | float, 0, 0.999),
    "NB_EPOCH": (int, 1, MOST),
    "BATCH_SIZE": (int, 1, MOST),
    "OPTIMIZER": (str,),
    "LEARNING_RATE": (int | float | None, 1e-30, 1e30),
    "LOSS": (str,),
    "METRICS": (list,),
    "STEPS_PER_EXECUTION": (int, 1, MOST),
    "RESULTS_DIR": (str | Path,),
    "VERBOSE": (int, 0, 2),
}


def check_constants():
    """Exit with a line for each constant that is missing, unknown or of a value it cannot have."""
    faults = [f"{name} is missing" for name in ALLOWED if name not in vars(config)]
    for name, value in list(vars(config).items()):
        value = value.item() if isinstance(value, np.generic) else value  # as Keras wants it
        setattr(config, name, value)
        if name in ALLOWED:
            kind, *limits = ALLOWED[name]
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or (limits and value is not None and not limits[0] <= value <= limits[1]):
                span = f" from {limits[0]} to {limits[1]}" if limits else ""
                right = getattr(kind, "__name__", kind)
                faults.append(f"{name} = {value!r:.80}: it must be {right}{span}")
        elif name.isupper() or name.upper() in ALLOWED:
            near = "".join(difflib.get_close_matches(name.upper(), ALLOWED, n=1))
            hint = f"Did you mean {near}? " if near else ""
            right = "A new constant also goes into the table ALLOWED in train_mnist.py"
            faults.append(f"{name} is unknown. {hint}{right}")
    if faults:
        sys.exit("\n".join(f"config.py: {fault}" for fault in faults))

    # Try each name in a training step, as some valid Keras names cannot work with one-hot labels.
    n = 3 if config.NB_CLASSES == 2 else 2  # with as many samples as classes, more would pass
    model = keras.Sequential([keras.Input((1,)), Dense(config.NB_CLASSES, "softmax")])
    trials = [("optimizer", config.OPTIMIZER), ("loss", config.LOSS)]
    for kind, name in trials + [("metrics", [metric]) for metric in config.METRICS]:
        try:
            model.compile(**{"optimizer": "sgd", "loss": "mse", kind: name}, run_eagerly=True)
            model.train_on_batch(np.ones((n, 1)), np.eye(n, config.NB_CLASSES))
            if any(np.ndim(value) for value in model.get_metrics_result().values()):
                raise ValueError("it gives a value for each class")
        except Exception as error:  # Keras raises all kinds
            faults.append(f"config.py: {kind.upper()}: Keras cannot use {name!r}: {error!r:.150}")
    keras.utils.clear_session()  # and with it the count of layers, which names them
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(errors="replace")  # a console may lack a character
    argparse.ArgumentParser(usage="%(prog)s (no arguments: edit config.py)").parse_args()
    vars(config).clear()  # read config.py as it is now, not as IPython or a .pyc has it
    vars(config).update(runpy.run_path(str(HERE / "config.py")))
    check_constants()
    sys.exit(main())
