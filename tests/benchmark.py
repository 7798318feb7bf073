"""Measure the program beside the listing as it stands and beside a plain NumPy loop.

    .venv/bin/python tests/benchmark.py

Every measurement is a process of its own, and they take turns, so that all suffer alike from a
machine that is now fast, now slow. The first epoch of each, in which the backends compile, is not
counted. Ends with an error if the program and the listing do not have the same numbers to the bit.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main():
    """Measure in turn, print the tables, check the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind (5)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each run (10)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, constants = arguments.child
        print(json.dumps(measure(kind, json.loads(constants))))
        return

    print(describe_machine(), end="\n\n")
    kinds = {"listing": "tensorflow", "program": "tensorflow", "numpy": "tensorflow"}
    if importlib.util.find_spec("jax"):
        kinds["program on JAX"] = "jax"
    if importlib.util.find_spec("torch"):
        kinds["program on PyTorch"] = "torch"
    runs = {kind: [] for kind in kinds}
    for turn in range(arguments.rounds):
        for kind, backend in kinds.items():
            print(f"turn {turn + 1} of {arguments.rounds}: {kind}", file=sys.stderr)
            runs[kind].append(start_child(kind, backend, NB_EPOCH=arguments.epochs))
    print_comparison(runs)
    print_growth(arguments.epochs)
    check_numbers(runs)


def describe_machine():
    """Return the processor, cores, system and versions in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    names = [name for name in ("keras", "tensorflow", "numpy", "jax", "torch") if is_there(name)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    processor = models[0] if models else platform.processor()
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def is_there(name):
    """Tell whether a package is installed."""
    return importlib.util.find_spec(name) is not None


def start_child(kind, backend="tensorflow", **constants):
    """Run measure(kind, constants) in a new process on a backend; return what it gives."""
    command = [sys.executable, __file__, "--child", kind, json.dumps(constants)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    process = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def measure(kind, constants):
    """Train once; return the seconds of each epoch but the first, peak MiB, and a digest."""
    epochs, digest = train_numpy(constants) if kind == "numpy" else train_keras(kind, constants)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"epochs": np.diff(epochs).tolist(), "peak": peak / unit, "digest": digest}


def train_keras(kind, constants):
    """Run the program with these constants, or make it the listing; return times and digest.

    The times are those at which the epochs ended, after all that the program writes then. The
    digest is of the history and the final weights. The listing is the program with one step for
    each call into the backend, and without its callback.
    """
    import config
    import train_mnist

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    for name, value in constants.items():
        setattr(config, name, value)
    if kind == "listing":
        config.STEPS_PER_EXECUTION = 1
    times, digests = [], []
    fit = keras.Sequential.fit

    def timed_fit(model, *args, callbacks, **kwargs):
        timer = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: times.append(time.perf_counter())
        )
        callbacks = [timer] if kind == "listing" else [*callbacks, timer]
        history = fit(model, *args, callbacks=callbacks, **kwargs)
        numbers = repr(history.history).encode() + b"".join(
            w.tobytes() for w in model.get_weights()
        )
        digests.append(hashlib.sha256(numbers).hexdigest())
        return history

    keras.Sequential.fit = timed_fit
    with tempfile.TemporaryDirectory() as folder:
        config.RESULTS_DIR = folder
        train_mnist.main()
    return times, digests[0]


def train_numpy(constants):
    """Train the listing's network in plain NumPy; return the times at which the epochs ended.

    The same data, split, batches, loss and validation as in Keras, and float32 like there.
    """
    with np.load(ROOT / "data" / "mnist.npz") as arrays:
        X = arrays["x_train"].reshape(60000, 784).astype("float32") / np.float32(255)
        Y = np.eye(10, dtype="float32")[arrays["y_train"]]
    X_val, Y_val, X, Y = X[48000:], Y[48000:], X[:48000], Y[:48000]
    random = np.random.default_rng(1671)
    limit = np.sqrt(6 / (784 + 10))  # Glorot and Bengio, 2010, as in Keras's Dense
    W = random.uniform(-limit, limit, (784, 10)).astype("float32")
    b = np.zeros(10, "float32")

    def predict(x):
        z = x @ W + b
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def score(p, y):
        loss = -np.log(np.maximum((p * y).sum(axis=1), 1e-7)).sum()
        return np.array([loss, (p.argmax(axis=1) == y.argmax(axis=1)).sum()])

    times = []
    for _ in range(constants["NB_EPOCH"]):
        totals, val_totals = np.zeros(2), np.zeros(2)
        order = random.permutation(len(X))
        for first in range(0, len(X), 128):
            batch = order[first : first + 128]
            x, y = X[batch], Y[batch]
            p = predict(x)
            totals += score(p, y)
            gradient = (p - y) / np.float32(len(x))
            W -= np.float32(0.01) * (x.T @ gradient)
            b -= np.float32(0.01) * gradient.sum(axis=0)
        for first in range(0, len(X_val), 128):
            y = Y_val[first : first + 128]
            val_totals += score(predict(X_val[first : first + 128]), y)
        times.append(time.perf_counter())
    return times, ""


def print_comparison(runs):
    """Print seconds an epoch, the ratios of each turn, and the peak memory, of each kind."""
    print("| | seconds an epoch (range) | times the listing's | times NumPy's | peak MiB |")
    print("|---|---|---|---|---|")
    seconds = {kind: [median(run["epochs"]) for run in turns] for kind, turns in runs.items()}
    for kind, turns in runs.items():
        every = [epoch for run in turns for epoch in run["epochs"]]
        ratios = [
            median(own / other for own, other in zip(seconds[kind], seconds[base], strict=True))
            for base in ("listing", "numpy")
        ]
        peak = max(run["peak"] for run in turns)
        span = f"{median(every):.3f} ({min(every):.3f} to {max(every):.3f})"
        print(f"| {kind} | {span} | {ratios[0]:.2f} | {ratios[1]:.2f} | {peak:.0f} |")
    faster = [a / b for a, b in zip(seconds["listing"], seconds["program"], strict=True)]
    low, high = min(faster), max(faster)
    print(f"\nThe program is {median(faster):.2f} times as fast as the listing an epoch, ", end="")
    print(f"{low:.2f} to {high:.2f} in the single turns.\n")


def print_growth(epochs):
    """Print how the program's cost grows with the epochs, the samples and the hidden units."""
    print("| epochs | seconds for all but the first |\n|---|---|")
    for number in (epochs, 2 * epochs, 4 * epochs):
        print(f"| {number} | {sum(start_child('program', NB_EPOCH=number)['epochs']):.2f} |")
    print("\n| training samples | seconds an epoch |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number in (15000, 30000, 60000):
            with np.load(ROOT / "data" / "mnist.npz") as arrays:
                part = {k: arrays[k][:number] if k.endswith("train") else arrays[k] for k in arrays}
            path = os.path.join(folder, f"{number}.npz")
            np.savez(path, **part)
            run = start_child("program", NB_EPOCH=epochs, DATA_PATH=path)
            print(f"| {training(number)} | {median(run['epochs']):.3f} |")
    print("\n| hidden units, in one layer | seconds an epoch |\n|---|---|")
    for number in (32, 128, 512):
        run = start_child("program", NB_EPOCH=epochs, HIDDEN_LAYERS=1, N_HIDDEN=number)
        print(f"| {number} | {median(run['epochs']):.3f} |")


def training(number):
    """Return how many of number samples are trained on, the others being for validation."""
    import train_mnist

    return f"{train_mnist.training_part(number):,}"


def check_numbers(runs):
    """Exit with an error unless listing and program gave the same numbers in every turn."""
    digests = {run["digest"] for kind in ("listing", "program") for run in runs[kind]}
    if len(digests) != 1:
        sys.exit("\nERROR: the program's history or weights are not those of the listing")
    print("\nHistory and weights of listing and program are the same to the last bit.")


if __name__ == "__main__":
    main()
