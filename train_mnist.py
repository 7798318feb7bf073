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
import runpy
import signal
import sys
import time
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent  # where config.py is, and where its relative paths start
if __name__ == "__main__":  # read before the slow imports: a later edit is for the next run
    config = types.SimpleNamespace(**runpy.run_path(str(HERE / "config.py")))
else:
    import config
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # less of TensorFlow's log
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # faster for products as small as these
if "IPython" not in sys.modules:  # a notebook's backend, inherited, may not be installed here
    os.environ.pop("MPLBACKEND", None)

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout
from matplotlib.figure import Figure


def main():
    """Load, scale, encode, build, compile, fit, evaluate: the listing, in its order."""
    check_constants()
    keras.config.set_floatx("float32")  # as in the listing, whatever keras.json says
    keras.config.set_epsilon(1e-7)
    keras.utils.set_random_seed(config.SEED)  # for reproducibility

    # data: shuffled and split between train and test sets
    (X_train, y_train), (X_test, y_test) = load_data()
    run = Run()  # a Keras callback that records this run in a folder of its own
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
    # if fit or evaluate gets a slice of these images, give its length here, too
    model.steps_per_execution = steps_per_execution(len(X_train), len(X_test))
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
    run.finish(score)
    print(f"Test score: {score.pop('loss'):.4f}")
    for name, value in score.items():  # Test accuracy, unless the metrics are others
        print(f"Test {name}:", *[f"{each:.4f}" for each in np.ravel(value)])

    draw_pictures(run, history, model, X_test, y_test)
    return run.exit_code


MOST = 2**31 - 1  # what 32-bit sizes hold
# Each constant of config.py: its type and, for a number, the least and the greatest value.
ALLOWED = {
    "SEED": (int, 0, 2**32 - 1),
    "DATA_PATH": (str | os.PathLike | None,),
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
    "RESULTS_DIR": (str | os.PathLike,),
    "VERBOSE": (int, 0, 2),
}


def check_constants():
    """Exit with a line for each constant that is missing, unknown or of a value it cannot have."""
    faults = [f"{name} is missing" for name in ALLOWED if name not in vars(config)]
    for name, value in vars(config).items():
        if name in ALLOWED:
            kind, *limits = ALLOWED[name]
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or (limits and value is not None and not limits[0] <= value <= limits[1]):
                span = f" from {limits[0]} to {limits[1]}" if limits else ""
                right = kind.__name__ if isinstance(kind, type) else kind
                faults.append(f"{name} = {value!r:.80}: it must be {right}{span}")
            elif name == "METRICS" and not all(isinstance(metric, str) for metric in value):
                faults.append(f"{name} = {value!r:.80}: names only; objects go into main's compile")
        elif name.isupper() or name.upper() in ALLOWED:
            near = difflib.get_close_matches(name.upper(), ALLOWED, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            faults.append(f"{name} is unknown. {hint}A new one goes into ALLOWED in train_mnist.py")
    if faults:
        sys.exit("\n".join(f"config.py: {fault}" for fault in faults))

    # Try each name in a training step, as some valid Keras names cannot work with one-hot labels.
    model = keras.Sequential([keras.Input((1,)), Dense(10, "softmax")])
    trials = [("OPTIMIZER", config.OPTIMIZER), ("LOSS", config.LOSS)]
    for kind, name in trials + [("METRICS", [metric]) for metric in config.METRICS]:
        try:
            settings = {"optimizer": "sgd", "loss": "mse", kind.lower(): name}
            model.compile(**settings, run_eagerly=True)
            model.train_on_batch(np.ones((2, 1)), np.eye(2, 10))
        except Exception as error:  # Keras raises all kinds
            faults.append(f"{kind}: {name!r} fails in a step with one-hot labels: {error!r:.150}")
    keras.utils.clear_session()  # so that the names of the layers count from the start again
    if faults:
        sys.exit("\n".join(f"config.py: {fault}" for fault in faults))


def load_data():
    """Load the data that DATA_PATH names, or let Keras download MNIST if that is None.

    Returns (X_train, y_train), (X_test, y_test): images, uint8 from 0 to 255, of RESHAPED values
    each; labels, integers from 0 to NB_CLASSES - 1 of shape (n,). Exits with one line if not.
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
            sys.exit(f"{source}: y_{part} is {y.dtype} of shape {y.shape}, not {len(X)} integers")
        if y.min() < 0 or y.max() >= config.NB_CLASSES:
            sys.exit(f"{source}: y_{part} has {y.min()} to {y.max()}, not 0 to NB_CLASSES - 1")
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

    def __init__(self):
        """Make the folder and start the record."""
        super().__init__()
        self.folder = make_folder()
        self.clock = time.monotonic()
        self.diverged = False
        self.stopped_by = None  # the number of a signal
        self.exit_code = 0  # 1 after a failure; 128 plus the number of the signal that stopped it
        backend = keras.config.backend()
        data = HERE / Path(config.DATA_PATH or keras.utils.get_file("mnist.npz", "")).expanduser()
        self.record = {
            "start": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "constants": {name: getattr(config, name) for name in ALLOWED},
            "python": sys.version.split()[0],
            "versions": {n: sys.modules[n].__version__ for n in ("keras", backend, "numpy")},
            "device": str(keras.ops.zeros(1).device).rpartition("device:")[2],  # CPU:0
            "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
            "script_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
            "status": "unfinished",
            "epochs": 0,
        }
        self.write_record()
        self.write(self.folder.parent / "runs.csv", write_runs)

    def on_train_begin(self, logs=None):
        """Take over the signals, except one that is ignored, as in a script's background job."""
        signals = {signal.SIGINT, signal.SIGTERM}
        taken = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
        self.old_handlers = {number: signal.signal(number, self.on_signal) for number in taken}

    def on_signal(self, number, frame):
        """Stop the training after this epoch; leave a second signal to the old handler."""
        self.stopped_by = number
        self.on_train_end()  # gives a second signal to the old handler
        logging.warning("Stopping after this epoch; once more quits at once.")

    def on_epoch_end(self, epoch, logs=None):
        """Save the model and the record; stop the training after a signal or if it diverged."""
        self.diverged = not math.isfinite(logs["loss"] + logs.get("val_loss", 0))
        if not self.diverged:
            self.record |= {"epochs": epoch + 1, **logs}
            self.write(self.folder / "model.keras", self.model.save)
            self.write_record()
        if self.diverged or self.stopped_by:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Put the old signal handlers back."""
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler)

    def finish(self, score):
        """Complete the record with evaluate's score, a dict, and save the model that was scored."""
        stopped = self.stopped_by and self.record["epochs"] < self.params["epochs"]
        if math.isfinite(score["loss"]) and not self.diverged:
            self.record["status"] = "interrupted" if stopped else "finished"
            self.record |= {f"test_{'score' if k == 'loss' else k}": v for k, v in score.items()}
            self.write(self.folder / "model.keras", self.model.save)  # a callback may change it
            self.exit_code = 128 + self.stopped_by if stopped else self.exit_code
        else:
            self.record["status"] = "diverged"
            self.exit_code = 1
            rate = float(self.model.optimizer.learning_rate)
            logging.error(f"The loss diverged at a learning rate of {rate:g}: try a smaller one")
        self.write_record()
        self.write(self.folder.parent / "runs.csv", write_runs)
        print("Results are in", self.folder)

    def write_record(self):
        """Write run.json."""
        self.record["seconds"] = round(time.monotonic() - self.clock, 1)
        text = json.dumps(
            self.record, indent=2, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v)
        )
        self.write(self.folder / "run.json", lambda new: new.write_text(text + "\n", "utf-8"))

    def write(self, path, save):
        """Save to a new file, then rename it to path, so that a kill never leaves half a file."""
        new = path.with_name(f"new-{os.getpid()}-{path.name}")
        try:
            save(new)
            os.replace(new, path)
        except OSError as error:
            logging.warning(f"{path} cannot be written: {error.strerror or error}")
            self.exit_code = self.exit_code or 1
        finally:
            with contextlib.suppress(OSError):
                new.unlink()


def make_folder():
    """Make a folder in RESULTS_DIR, named by the time; wait while a run has that name."""
    try:
        results = HERE / Path(config.RESULTS_DIR).expanduser()
        results.mkdir(parents=True, exist_ok=True)
        while True:
            folder = results / time.strftime("%Y-%m-%d_%H-%M-%S")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
            time.sleep(0.1)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user
        sys.exit(f"config.py: RESULTS_DIR = {str(config.RESULTS_DIR)!r} cannot be used: {error}")


def write_runs(path):
    """Write a CSV file with a row for each run.json in the folders beside it, ordered by name."""
    rows = []
    for file in sorted(path.parent.glob("*/run.json")):
        with contextlib.suppress(Exception):  # not a run's record: skip it
            run = json.loads(file.read_text("utf-8"))
            run |= {name: run[name][:8] + "..." for name in ("data_sha256", "script_sha256")}
            rows.append({"folder": file.parent.name, **run.pop("constants"), **run})
    with open(path, "w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)


def draw_pictures(run, history, model, X_test, y_test):
    """Draw a run's pictures; X_test is square images, float32 from 0 to 1, y_test is integers."""
    if run.record["status"] == "diverged":  # a network of NaN
        return
    probabilities = model.predict(X_test, batch_size=1000, verbose=0)
    shape = getattr(probabilities, "shape", None)  # several outputs are a list
    first = model.get_weights()[0].shape
    no_epoch = "" if history.epoch else "no epoch was run"
    no_classes = "" if shape == (len(y_test), config.NB_CLASSES) else "not one output per class"
    no_square = "" if math.isqrt(config.RESHAPED) ** 2 == config.RESHAPED else "images not square"
    no_pixels = "" if first[:-1] == (config.RESHAPED,) else "first layer without a weight per pixel"
    figures = {
        "curves.png": no_epoch or draw_curves(history),
        "confusion.png": no_classes or draw_confusion(y_test, probabilities),
        "mistakes.png": no_classes or no_square or draw_mistakes(X_test, y_test, probabilities),
        "weights.png": no_pixels or no_square or draw_weights(model),
    }
    for name, figure in figures.items():
        if isinstance(figure, str):  # why there is none
            logging.warning(f"no {name}: {figure}")
        else:
            figure.supxlabel(run.folder.name, x=0.995, ha="right", size=7, color="gray")
            run.write(run.folder / name, figure.savefig)


def draw_curves(history):
    """Draw the loss and each metric of one value over the epochs, training and validation."""
    names = [n for n, values in history.history.items() if np.ndim(values) == 1 and n[:4] != "val_"]
    rows, columns = math.ceil(len(names) / 3), min(3, len(names))
    epochs = [epoch + 1 for epoch in history.epoch]
    figure = Figure(figsize=(5.5 * columns, 4 * rows), dpi=120, layout="constrained")
    for position, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, position, xlabel="epoch", ylabel=name)
        for prefix, label, style in (("", "training", ".-"), ("val_", "validation", ".--")):
            if len(history.history.get(prefix + name, [])) == len(epochs):
                axes.plot(epochs, history.history[prefix + name], style, ms=3, label=label)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def draw_confusion(y_test, probabilities):
    """Draw how often each label (row) was taken for each class (column)."""
    n = config.NB_CLASSES
    counts = np.zeros((n, n), int)
    np.add.at(counts, (y_test, probabilities.argmax(axis=1)), 1)
    side = min(max(6, 0.6 * n), 24)  # inches
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="label", xticks=range(n), yticks=range(n))
    axes.set_title(f"Test accuracy {counts.trace() / len(y_test):.4f} (empty: 0)")
    axes.imshow(counts**0.25, cmap="Blues", alpha=0.6)  # the power shows single mistakes, too
    for row, column in np.argwhere(counts):
        axes.text(column, row, counts[row, column], ha="center", va="center")
    return figure


def draw_mistakes(X_test, y_test, probabilities):
    """Draw the 24 most confident mistakes."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != y_test)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    title = f"{len(wrong):,} mistakes on the test set: the {len(shown)} most confident"
    titles = [f"{y_test[i]} taken for {predicted[i]}\np = {confidence[i]:.3f}" for i in shown]
    return draw_images(title, X_test[shown], titles, cmap="gray_r", vmin=0, vmax=1)


def draw_weights(model):
    """Draw the weights of the first layer's neurons, 24 of them at most."""
    layer, *later = [layer for layer in model.layers if layer.weights]
    weights = layer.get_weights()[0].T
    shown, limit = weights[:24], np.abs(weights).max()
    title = f"Layer {layer.name}: {len(shown)} of {len(weights)} neurons, weights black < 0 < white"
    titles = [f"{'neuron' if later else 'class'} {number}" for number in range(len(shown))]
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
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(errors="replace")  # a console may lack a character
    argparse.ArgumentParser(usage="%(prog)s (no arguments: edit config.py)").parse_args()
    sys.exit(main())
