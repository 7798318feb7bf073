"""Train a first neural network on MNIST's handwritten digits, and judge it on the test set.

It is the first listing of "Deep Learning with Keras" (A. Gulli and S. Pal, 2017), for Keras 3. It
takes no arguments: edit config.py, which holds its constants. As they come, a run ends in

    Test score: 0.2773
    Test accuracy: 0.9223
"""

import contextlib
import csv
import difflib
import hashlib
import json
import math
import os
import signal
import sys
import textwrap
import traceback
import zipfile
from datetime import datetime
from pathlib import Path

try:
    import config
except Exception as error:  # a slip of the pen there is one line here, as every mistake is
    sys.exit(f"config.py: {type(error).__name__}: {error}")


def main():
    """Load, scale, encode, build, compile, fit, evaluate: the listing, in its order."""
    refuse_arguments()
    check_constants()
    keras = import_keras()
    check_names()
    keras.utils.set_random_seed(config.SEED)  # for reproducibility

    # data: shuffled and split between train and test sets
    (X_train, y_train), (X_test, y_test) = load_data()
    pictures = X_test  # as they are
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
        steps_per_execution=fitting_steps(len(X_train), len(X_test)),
    )
    with recorded_run() as (folder, record):
        model.fit(
            X_train,
            Y_train,
            batch_size=config.BATCH_SIZE,
            epochs=config.NB_EPOCH,
            verbose=config.VERBOSE,
            validation_split=config.VALIDATION_SPLIT,
            callbacks=[epoch_recorder(folder, record)],
        )
        exit_if_diverged(record)

        score = model.evaluate(X_test, Y_test, verbose=config.VERBOSE, return_dict=True)
        print(f"Test score: {score['loss']:.4f}")
        for metric in config.METRICS:
            print(f"Test {metric}: {score[metric]:.4f}", flush=True)
        exit_if_diverged(record, score["loss"])
        record["test"] = {"score": score["loss"], **{m: score[m] for m in config.METRICS}}
        draw_test(folder, record, y_test, model.predict_on_batch(X_test), pictures)


def refuse_arguments():
    """Show the help for -h; exit with one line for any other argument, rather than ignore it."""
    arguments = sys.argv[1:]
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        sys.exit()
    if arguments:
        sys.exit(f"train_mnist.py takes no arguments, but got {arguments[0]!r}: edit config.py")


# A relative path starts here, wherever the command is given.
HERE = Path(__file__).resolve().parent


def whole(low, high=2**31 - 1):
    """Describe and test a whole number from low to high (by default, what 32-bit sizes hold)."""
    return f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high


def is_text(v):
    """Tell whether v is a string that is not empty."""
    return type(v) is str and v != ""


# Each constant of config.py: what it must be, in words and as a test.
ALLOWED = {
    "SEED": whole(0, 2**32 - 1),
    "DATA_PATH": ("the path of an .npz file, or None", lambda v: v is None or is_text(v)),
    "RESHAPED": whole(1),
    "NB_CLASSES": whole(2),
    "VALIDATION_SPLIT": (
        "a number from 0 to below 1",
        lambda v: type(v) in (int, float) and 0 <= v < 1,
    ),
    "HIDDEN_LAYERS": whole(0),
    "N_HIDDEN": whole(1),
    "NB_EPOCH": whole(1),
    "BATCH_SIZE": whole(1),
    "OPTIMIZER": ('the name of an optimizer in Keras, such as "sgd"', is_text),
    "LEARNING_RATE": (  # float32 holds hardly more
        "a number from 1e-30 to 1e30, or None",
        lambda v: v is None or (type(v) in (int, float) and 1e-30 <= v <= 1e30),
    ),
    "LOSS": ('the name of a loss in Keras, such as "categorical_crossentropy"', is_text),
    "METRICS": (
        'a list of different names of metrics in Keras, such as ["accuracy"]',
        lambda v: type(v) is list and all(map(is_text, v)) and len(set(v)) == len(v),
    ),
    "STEPS_PER_EXECUTION": whole(1),
    "RESULTS_DIR": ("the path of a folder", is_text),
    "VERBOSE": whole(0, 2),
}


def check_constants():
    """Exit with a line for each constant that is missing, out of range, or unknown here."""
    faults = []
    for name, (allowed, is_allowed) in ALLOWED.items():
        if not hasattr(config, name):
            faults.append(f"{name} is missing: it must be {allowed}")
        elif not is_allowed(value := getattr(config, name)):
            faults.append(f"{name} = {value!r:.80}: it must be {allowed}")
    for name in vars(config):
        if name not in ALLOWED and (name[0].isupper() or name.upper() in ALLOWED):
            nearest = difflib.get_close_matches(name.upper(), ALLOWED, n=1, cutoff=0)[0]
            faults.append(f"{name} is not a constant of this program: did you mean {nearest}?")
    exit_if_any(faults)


def exit_if_any(faults, source="config.py"):
    """Exit with a line for each fault, if there are any, that starts with where it was found."""
    if faults:
        sys.exit("\n".join(f"{source}: {fault}" for fault in faults))


def import_keras():
    """Import Keras, which takes seconds, and return it; exit with one line if that fails.

    TensorFlow's start-up messages are turned down as far as its environment variable allows.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
    except Exception as error:  # not installed, or KERAS_BACKEND names what is not there
        sys.exit(f"Keras cannot start: {error} (requirements.txt lists what to install)")
    return keras


def check_names():
    """Exit with a line for each optimizer, loss or metric that Keras does not know or cannot use.

    Each is tried in one step of training on made-up, one-hot labels, since many a name that Keras
    knows needs settings or labels of another kind ("sparse_categorical_crossentropy" is one).
    """
    import keras
    import numpy as np

    layer = keras.layers.Dense(10, activation="softmax", name="trial")
    trial = keras.Sequential([keras.Input((10,), name="trial_input"), layer], name="trial")
    names = [("OPTIMIZER", config.OPTIMIZER, {"optimizer": config.OPTIMIZER})]
    names += [("LOSS", config.LOSS, {"loss": config.LOSS})]
    names += [("METRICS", metric, {"metrics": [metric]}) for metric in config.METRICS]
    faults = []
    for constant, name, argument in names:
        try:
            defaults = {"optimizer": "sgd", "loss": "mean_squared_error"}
            trial.compile(**{**defaults, **argument}, run_eagerly=True)
            results = trial.train_on_batch(np.eye(10), np.eye(10), return_dict=True)
            [float(result) for result in results.values()]  # one number, not one for each class
        except Exception as error:
            why = textwrap.shorten(str(error), 120, placeholder="...")
            faults.append(f"{constant}: Keras does not know or cannot use {name!r} here: {why}")
    exit_if_any(faults)


def load_data():
    """Read the data from DATA_PATH, or let Keras download MNIST if that is None.

    Returns (X_train, y_train), (X_test, y_test): the images, uint8 from 0 to 255 of shape
    (n, 28, 28), or any other with RESHAPED values an image, and the labels, whole numbers from 0
    to NB_CLASSES - 1 of shape (n,). Exits with a line for each fault if the data cannot be had or
    is of another kind.
    """
    import keras

    if config.DATA_PATH is None:
        source = "keras.datasets.mnist"
        try:
            train, test = keras.datasets.mnist.load_data()
        except Exception as error:
            bundled = 'set DATA_PATH = "data/mnist.npz", the bundled copy'
            sys.exit(f"config.py: DATA_PATH = None: the download failed: {error}; {bundled}")
    else:
        source = HERE / config.DATA_PATH
        train, test = read_npz(source)

    faults = []
    for part, (X, y) in (("train", train), ("test", test)):
        size = math.prod(X.shape[1:])
        if X.dtype != "uint8" or X.ndim < 2:
            faults.append(f"x_{part} is {X.dtype} of shape {X.shape}, not uint8 images")
        elif y.dtype.kind not in "iu" or y.ndim != 1:
            faults.append(f"y_{part} is {y.dtype} of shape {y.shape}, not a row of whole numbers")
        elif len(X) != len(y):
            faults.append(f"x_{part} has {len(X)} images, but y_{part} has {len(y)} labels")
        elif len(X) == 0:
            faults.append(f"x_{part} is empty")
        elif size != config.RESHAPED:
            faults.append(f"x_{part} has {size} values an image, but RESHAPED = {config.RESHAPED}")
        elif y.min() < 0 or y.max() >= config.NB_CLASSES:
            span = f"0 to {config.NB_CLASSES - 1} for NB_CLASSES = {config.NB_CLASSES}"
            faults.append(
                f"y_{part} has labels from {y.min()} to {y.max()}, but they must be {span}"
            )
    exit_if_any(faults, source)

    n = len(train[0])
    kept = training_part(n)
    if kept == 0 or (kept == n and config.VALIDATION_SPLIT > 0):
        use = "train" if kept == 0 else "validate"
        split = f"VALIDATION_SPLIT = {config.VALIDATION_SPLIT}"
        exit_if_any([f"{split}: of {n} samples, it leaves none to {use} on"])
    return train, test


def training_part(n):
    """Return how many of n samples fit trains on, the first ones, when it splits off the others."""
    return math.floor(n * (1 - config.VALIDATION_SPLIT))


def read_npz(path):
    """Read an .npz file into what load_data returns; exit with one line if that fails."""
    import numpy as np

    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        # ZipFile refuses what is no .npz; NumPy alone would take that for a pickled object.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
            X_train, y_train, X_test, y_test = (np.asarray(arrays[key]) for key in keys)
    except Exception as error:  # no such file, no right to read it, cut short, a key missing, ...
        why = f"{type(error).__name__}: {error}"
        sys.exit(f"{path} cannot be read as .npz: {why} (DATA_PATH in config.py names the file)")
    return (X_train, y_train), (X_test, y_test)


def build_model():
    """Build the network: HIDDEN_LAYERS of Dense(N_HIDDEN) and ReLU, then the output with a softmax.

    It takes float32 of shape (n, RESHAPED), from 0 to 1, and gives float32 of shape
    (n, NB_CLASSES): the probability of each class. For MNIST and no hidden layers, it has
    784 x 10 weights and 10 biases, 7,850 parameters.
    """
    import keras
    from keras.layers import Activation, Dense

    model = keras.Sequential()
    model.add(keras.Input(shape=(config.RESHAPED,)))
    for _ in range(config.HIDDEN_LAYERS):
        model.add(Dense(config.N_HIDDEN))
        model.add(Activation("relu"))
    # 10 outputs
    # final stage is softmax
    model.add(Dense(config.NB_CLASSES))
    model.add(Activation("softmax"))
    return model


def build_optimizer():
    """Make the optimizer that OPTIMIZER names; LEARNING_RATE = None leaves its default rate."""
    import keras

    settings = {}
    if config.LEARNING_RATE is not None:
        settings["learning_rate"] = float(config.LEARNING_RATE)  # Keras refuses a plain 1
    return keras.optimizers.get({"class_name": config.OPTIMIZER, "config": settings})


def fitting_steps(n_train, n_test):
    """Return STEPS_PER_EXECUTION, or an epoch's or the evaluation's steps where those are fewer.

    The results are the same for every value, but far past the last step Keras's bar overflows its
    line; and with PyTorch, Keras allows 1 alone.
    """
    import keras

    if keras.config.backend() == "torch":
        return 1
    steps = math.ceil(training_part(n_train) / config.BATCH_SIZE)
    test_steps = math.ceil(n_test / 32)  # evaluate's own default
    return min(config.STEPS_PER_EXECUTION, steps, test_steps)


@contextlib.contextmanager
def recorded_run():
    """Make a folder for this run, give it and the run's record, and complete both in the end.

    The record is a dict, kept in run.json. SIGINT (Ctrl-C) and SIGTERM end the training after the
    call into the backend in hand, when Python learns of them; a second one after that ends the
    program. Exits with a code other than 0 if the run was interrupted, or if something could not
    be written.
    """
    folder, record = start_run()

    def stop(number, frame):
        record.update(status="interrupted", signal=number)  # which epoch_recorder looks at
        for each in handlers:
            signal.signal(each, signal.SIG_DFL)
        os.write(2, b"\nStopping after this step; the same again stops at once.\n")

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield folder, record
        if record["status"] == "running":
            record["status"] = "finished"
    except Exception:
        record.update(status="failed", error=traceback.format_exc())
        raise
    finally:
        if record["epochs"] > 0:
            with attempt(record, folder / "curves.png") as path, replacing(path) as new:
                draw_curves(new, folder / "history.csv")
        with attempt(record, folder / "run.json") as path:
            write_record(path, record)
        with attempt(record, folder.parent / "runs.csv") as path:
            write_runs(path)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if record["status"] == "interrupted":
        sys.exit(128 + record["signal"])
    if record["unwritten"]:
        sys.exit("not written: " + ", ".join(record["unwritten"]))


def start_run():
    """Make this run's folder and return it with the record; exit with one line if that fails."""
    import keras

    start = datetime.now().astimezone()
    backend = keras.config.backend()
    versions = {name: sys.modules[name].__version__ for name in ("keras", backend, "numpy")}
    data = HERE / config.DATA_PATH if config.DATA_PATH else keras.utils.get_file("mnist.npz", "")
    record = {
        "status": "running",
        "start": start.isoformat(timespec="seconds"),
        "epochs": 0,
        "seconds": 0.0,
        "constants": {name: getattr(config, name) for name in ALLOWED},
        "versions": {"python": sys.version.split()[0], **versions},
        "backend": backend,
        "device": str(keras.ops.zeros(1).device).rpartition("device:")[2],
        "data_sha256": hashlib.sha256(Path(data).read_bytes()).hexdigest(),
        "unwritten": {},  # file: why
    }
    name = f"{start:%Y-%m-%d_%H-%M-%S}"
    try:
        (HERE / config.RESULTS_DIR).mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = HERE / config.RESULTS_DIR / (name if number == 1 else f"{name}_{number}")
            with contextlib.suppress(FileExistsError):  # from a run started in the same second
                folder.mkdir()
                break
        write_record(folder / "run.json", record)
    except OSError as error:
        exit_if_any(
            [f"RESULTS_DIR = {config.RESULTS_DIR!r}: nothing can be written there: {error}"]
        )
    print("Results go to", folder, flush=True)
    return folder, record


def write_record(path, record):
    """Write record to path as JSON, with the seconds since its start."""
    elapsed = datetime.now().astimezone() - datetime.fromisoformat(record["start"])
    record["seconds"] = round(elapsed.total_seconds(), 1)
    with replacing(path) as new:
        new.write_text(json.dumps(record, indent=2) + "\n")


@contextlib.contextmanager
def replacing(path):
    """Give the path of a new file, then put it in path's place in one step: never half a file."""
    new = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield new
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def attempt(record, path):
    """Give path, to be written; if that fails, say so, note it in record, and let the run go on."""
    try:
        yield path
        record["unwritten"].pop(path.name, None)
    except Exception as error:
        if path.name not in record["unwritten"]:
            print(f"{path} could not be written: {error}", file=sys.stderr)
        record["unwritten"][path.name] = str(error)


def epoch_recorder(folder, record):
    """Make the callback that writes history.csv, model.keras and run.json as each epoch ends.

    It also ends the training once the record says that the run was interrupted, or if the loss of
    training or validation is NaN or infinite: that epoch is not written, so the model stays usable.
    """
    import keras

    csv_logger = keras.callbacks.CSVLogger(folder / "history.csv")

    def stop_if_interrupted(step, logs):
        if record["status"] == "interrupted":
            recorder.model.stop_training = True  # Keras ends the epoch, too, and then the training

    def end_epoch(epoch, logs):
        if not math.isfinite(logs["loss"] + logs.get("val_loss", 0)):
            record["status"] = "diverged"
            recorder.model.stop_training = True
            return
        record["epochs"] = epoch + 1
        with attempt(record, folder / "history.csv"):
            csv_logger.on_epoch_end(epoch, logs)
        with attempt(record, folder / "model.keras") as path, replacing(path) as new:
            recorder.model.save(new)
        with attempt(record, folder / "run.json") as path:
            write_record(path, record)
        stop_if_interrupted(None, logs)  # a signal may have come since the last step

    def end(logs):
        with attempt(record, folder / "history.csv"):
            csv_logger.on_train_end()

    recorder = keras.callbacks.LambdaCallback(
        on_train_begin=csv_logger.on_train_begin,
        on_train_batch_end=stop_if_interrupted,
        on_epoch_end=end_epoch,
        on_train_end=end,
    )
    return recorder


def exit_if_diverged(record, loss=0.0):
    """Exit with one line if loss, or the loss of an epoch before, is NaN or infinite."""
    if record["status"] == "diverged" or not math.isfinite(loss):
        record["status"] = "diverged"
        epoch = min(record["epochs"] + 1, config.NB_EPOCH)
        sys.exit(f"The loss became NaN or infinite in epoch {epoch}: try a smaller LEARNING_RATE")


def draw_test(folder, record, y_test, probabilities, pictures):
    """Draw confusion.png and mistakes.png from what the model makes of the test set.

    y_test holds the labels, whole numbers of shape (n,); probabilities is float32 of shape
    (n, NB_CLASSES); pictures holds the images as they were loaded.
    """
    with attempt(record, folder / "confusion.png") as path, replacing(path) as new:
        draw_confusion(new, y_test, probabilities)
    with attempt(record, folder / "mistakes.png") as path, replacing(path) as new:
        draw_mistakes(new, y_test, probabilities, pictures)


def draw_confusion(path, y_test, probabilities):
    """Draw how often each label (row) was taken for each class (column)."""
    import numpy as np
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    n = config.NB_CLASSES
    counts = np.zeros((n, n), int)
    np.add.at(counts, (y_test, probabilities.argmax(axis=1)), 1)
    side = min(max(6, 0.6 * n), 24)  # inches
    size = min(11, 66 * side / n / len(str(counts.max())))  # of text that fits its cell
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    # The power lets a few mistakes be seen beside a thousand right answers.
    axes.imshow(counts, cmap="Blues", norm=PowerNorm(0.4, 0, counts.max()))
    for row, column in np.argwhere(counts):
        count = counts[row, column]
        colour = "white" if count > counts.max() / 6 else "black"
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    right = counts.trace()
    axes.set_title(f"Test accuracy {right / len(y_test):.4f}: {right:,} of {len(y_test):,} right")
    ticks = range(0, n, math.ceil(n / 60))  # as many as can be read
    axes.set(xlabel="predicted (empty: 0)", ylabel="label", xticks=ticks, yticks=ticks)
    figure.savefig(path, dpi=120)


def draw_mistakes(path, y_test, probabilities, pictures):
    """Draw the wrong predictions of the greatest probability, the surest first, 24 at most."""
    import numpy as np
    from matplotlib.figure import Figure

    height = math.isqrt(config.RESHAPED)
    if pictures.ndim == 2 and height**2 == config.RESHAPED:  # stored as rows
        pictures = pictures.reshape(-1, height, height)
    predicted, surety = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != y_test)
    shown = wrong[np.argsort(-surety[wrong], kind="stable")][:24]
    figure = Figure(figsize=(9, 7.5))
    figure.suptitle(f"{len(wrong):,} mistakes on the test set: the {len(shown)} most confident")
    margins = {"left": 0.02, "right": 0.98, "top": 0.88, "bottom": 0.02, "hspace": 0.4}
    for axes in figure.subplots(4, 6, gridspec_kw=margins).flat:
        axes.axis("off")
    for axes, i in zip(figure.axes, shown, strict=False):
        axes.imshow(np.atleast_2d(pictures[i]), cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{y_test[i]} taken for {predicted[i]}\np = {surety[i]:.3f}", fontsize=10)
    figure.savefig(path, dpi=120)


def draw_curves(path, history):
    """Draw the metrics and the loss in history.csv over the epochs, of training and validation."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = np.atleast_1d(np.genfromtxt(history, delimiter=",", names=True))
    epochs = columns["epoch"] + 1
    names = [*config.METRICS, "loss"]
    figure = Figure(figsize=(5.5 * len(names), 4), layout="constrained")
    # Two colours of Okabe and Ito (2008), two line styles: clear in greyscale and to every eye.
    looks = {"": ("training", "#0072B2", "-"), "val_": ("validation", "#D55E00", "--")}
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        for prefix, (label, colour, style) in looks.items():
            values = columns[prefix + name]
            if not np.isnan(values).all():  # which they are without validation
                label = f"{label}, {values[-1]:.4f} at the end"
                marker = "o" if len(epochs) < 20 else None
                axes.plot(epochs, values, color=colour, linestyle=style, marker=marker, label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def write_runs(path):
    """Write runs.csv, a row for each run.json in the folders beside it, the newest last.

    It is written anew until no run.json has changed meanwhile, so that of two runs that end at
    once, the one that writes last has seen the other's end.
    """
    written, rows = None, read_runs(path.parent, warn=True)
    while written != rows:
        with replacing(path) as new, open(new, "w", newline="") as file:
            writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
            writer.writeheader()
            writer.writerows(rows)
        written, rows = rows, read_runs(path.parent, warn=False)


def read_runs(results, warn):
    """Read every run.json in the folders of results; return a dict for each, ordered by start.

    One that is not as this program writes it is passed over; if warn is true, with a warning.
    """
    rows = {}
    for path in results.glob("*/run.json"):
        try:
            run = json.loads(path.read_text())
            row = {"folder": path.parent.name}
            row |= {key: run[key] for key in ("status", "epochs", "seconds")}
            row |= {f"test_{name}": value for name, value in run.get("test", {}).items()}
            row |= {name: str(value) for name, value in run["constants"].items()}
            rows[datetime.fromisoformat(run["start"]).timestamp(), path.parent.name] = row
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if warn:
                print(
                    f"{path} is not in runs.csv: {type(error).__name__}: {error}", file=sys.stderr
                )
    return [rows[key] for key in sorted(rows)]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # what no check foresaw, such as a network larger than the memory
        sys.exit(f"{type(error).__name__}: {textwrap.shorten(str(error), 300)}")
