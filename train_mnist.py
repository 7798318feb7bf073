"""Train a first neural network on the MNIST handwritten digits and judge it on the test set.

One Dense layer of 10 neurons and a softmax, trained by SGD on categorical cross-entropy for 200
epochs: the first listing of "Deep Learning with Keras" (A. Gulli and S. Pal, 2017), here for
Keras 3. Every constant is in config.py. With the constants as they come, running this file ends by
printing

    Test score: 0.2773
    Test accuracy: 0.9223
"""

import argparse
import difflib
import math
import os
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

try:
    import config
except Exception as error:  # a slip of the pen in config.py: one line, as for every mistake
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
    model.fit(
        X_train,
        Y_train,
        batch_size=config.BATCH_SIZE,
        epochs=config.NB_EPOCH,
        verbose=config.VERBOSE,
        validation_split=config.VALIDATION_SPLIT,
    )

    score = model.evaluate(X_test, Y_test, verbose=config.VERBOSE, return_dict=True)
    print(f"Test score: {score['loss']:.4f}")
    for metric in config.METRICS:
        print(f"Test {metric}: {score[metric]:.4f}")


def refuse_arguments():
    """Show the help for -h; exit with one line for any other argument, rather than ignore it."""
    parser = argparse.ArgumentParser(
        description="Trains a first neural network on MNIST and prints its test accuracy.",
        epilog="It takes no other arguments: to change what it does, edit config.py.",
    )
    _, arguments = parser.parse_known_args()
    if arguments:
        sys.exit(
            f"train_mnist.py takes no arguments, but got {arguments[0]!r}: edit config.py instead"
        )


def whole(low, high=2**31 - 1):
    """Describe and test a whole number from low to high (by default, what 32-bit sizes hold)."""
    return f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high


def is_number(v):
    """Tell whether v is an int or a float, and not a bool; no comparison holds for NaN."""
    return type(v) in (int, float)


def is_text(v):
    """Tell whether v is a string that is not empty."""
    return type(v) is str and v != ""


# Each constant of config.py: what it must be, in words and as a test.
ALLOWED = {
    "SEED": whole(0, 2**32 - 1),
    "DATA_PATH": ("the path of an .npz file, or None", lambda v: v is None or is_text(v)),
    "RESHAPED": whole(1),
    "NB_CLASSES": whole(2),
    "VALIDATION_SPLIT": ("a number from 0 to below 1", lambda v: is_number(v) and 0 <= v < 1),
    "HIDDEN_LAYERS": whole(0),
    "N_HIDDEN": whole(1),
    "NB_EPOCH": whole(1),
    "BATCH_SIZE": whole(1),
    "OPTIMIZER": ('the name of an optimizer in Keras, such as "sgd"', is_text),
    "LEARNING_RATE": (
        "a number from 1e-30 to 1e30, or None",
        lambda v: v is None or (is_number(v) and 1e-30 <= v <= 1e30),  # float32 holds hardly more
    ),
    "LOSS": ('the name of a loss in Keras, such as "categorical_crossentropy"', is_text),
    "METRICS": (
        'a list of different names of metrics in Keras, such as ["accuracy"]',
        lambda v: type(v) is list and all(map(is_text, v)) and len(set(v)) == len(v),
    ),
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
        # A relative path starts at this file's folder, wherever the command is given.
        source = Path(__file__).resolve().parent / config.DATA_PATH
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
    kept = math.floor(n * (1 - config.VALIDATION_SPLIT))  # as fit itself splits
    if kept == 0 or (kept == n and config.VALIDATION_SPLIT > 0):
        use = "train" if kept == 0 else "validate"
        split = f"VALIDATION_SPLIT = {config.VALIDATION_SPLIT}"
        exit_if_any([f"{split}: of {n} samples, it leaves none to {use} on"])
    return train, test


def read_npz(path):
    """Read an .npz file into what load_data returns; exit with one line if that fails."""
    import numpy as np

    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":  # an .npz is a zip archive, which starts so
                sys.exit(f"{path}: not an .npz file")
        with np.load(path, allow_pickle=False) as arrays:  # unpickling could run any code
            keys = ("x_train", "y_train", "x_test", "y_test")
            X_train, y_train, X_test, y_test = (np.asarray(arrays[key]) for key in keys)
            return (X_train, y_train), (X_test, y_test)
    except KeyError as error:
        sys.exit(f"{path}: an array is missing: {error}")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        sys.exit(f"{path}: cut short or damaged: {error}")
    except Exception as error:  # no such file, no right to read it, pickled objects, ...
        sys.exit(f"{path}: cannot be read: {error}")


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
        settings["learning_rate"] = config.LEARNING_RATE
    return keras.optimizers.get({"class_name": config.OPTIMIZER, "config": settings})


if __name__ == "__main__":
    main()
