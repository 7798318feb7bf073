"""Measure the program beside the listing in plain Keras.

    python tests/benchmark.py

Every measurement is a process of its own, and they take turns, so that all suffer alike from a
machine that is now fast, now slow. The first epoch of each, in which the backends compile, is not
counted. Ends with an error if the program and the listing do not have the same numbers to the bit.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main():
    """Measure in turn, print the table, check the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind (5)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each run (10)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.epochs)))
        return

    print(describe_machine(), end="\n\n")
    kinds = {"listing": "tensorflow", "program": "tensorflow"}
    kinds |= {"program on JAX": "jax"} if find_spec("jax") else {}
    kinds |= {"program on PyTorch": "torch"} if find_spec("torch") else {}
    runs = {kind: [] for kind in kinds}
    for turn in range(arguments.rounds):
        for kind, backend in kinds.items():
            print(f"turn {turn + 1} of {arguments.rounds}: {kind}", file=sys.stderr)
            runs[kind].append(start_child(kind, backend, arguments.epochs))
    print_comparison(runs)
    if len({run["digest"] for kind in ("listing", "program") for run in runs[kind]}) != 1:
        sys.exit("\nERROR: the program's history or weights are not those of the listing")
    print("\nHistory and weights of listing and program are the same to the last bit.")


def describe_machine():
    """Return the processor, cores, system and versions in a line."""
    processor = platform.processor()
    if Path("/proc/cpuinfo").exists():
        processor = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].split("\n")[0]
    packages = [n for n in ("keras", "tensorflow", "numpy", "jax", "torch") if find_spec(n)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    system = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    return f"{processor}, {system}, {versions}"


def start_child(kind, backend, epochs):
    """Measure a kind in a new process on a backend; return what it prints."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--child", kind, "--epochs", str(epochs)]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(output.decode("utf-8").splitlines()[-1])


def measure(kind, epochs):
    """Train once; return the seconds of each epoch but the first, and a digest of the numbers."""
    import keras

    times, numbers = [], []
    fit = keras.Sequential.fit

    def timed_fit(model, *args, callbacks=(), **kwargs):
        timer = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: times.append(time.perf_counter())
        )
        history = fit(model, *args, callbacks=[*callbacks, timer], **kwargs)
        numbers.append((history.history, [w.tobytes() for w in model.get_weights()]))
        return history

    keras.Sequential.fit = timed_fit
    if kind == "listing":
        import listing

        listing.train(1, epochs, verbose=1)
    else:
        import config
        import train_mnist

        with tempfile.TemporaryDirectory() as folder:
            vars(config).update(NB_EPOCH=epochs, RESULTS_DIR=folder)
            train_mnist.main()
    digest = hashlib.sha256(repr(numbers).encode()).hexdigest()
    return {"epochs": np.diff(times).tolist(), "digest": digest}


def print_comparison(runs):
    """Print the seconds of an epoch of each kind, and the ratios of each turn."""
    print("| | seconds an epoch (range) | times as fast as the listing (range) |\n|---|---|---|")
    seconds = {kind: [median(run["epochs"]) for run in turns] for kind, turns in runs.items()}
    for kind, turns in runs.items():
        every = [epoch for run in turns for epoch in run["epochs"]]
        ratios = [a / b for a, b in zip(seconds["listing"], seconds[kind], strict=True)]
        time_span = f"{median(every):.3f} ({min(every):.3f} to {max(every):.3f})"
        print(f"| {kind} | {time_span} | {median(ratios):.2f} ", end="")
        print(f"({min(ratios):.2f} to {max(ratios):.2f}) |")


if __name__ == "__main__":
    main()
