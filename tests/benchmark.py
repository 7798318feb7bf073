"""Measure the program beside the listing in plain Keras: python tests/benchmark.py

Every measurement is a process of its own, and they take turns on a machine that is now fast, now
slow. The first epoch, in which the backends compile, is not counted. Ends with an error if the
numbers of program and listing are not the same to the bit.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

TURNS, EPOCHS = 5, 10
KINDS = {"listing": "tensorflow", "program": "tensorflow"}
KINDS |= {f"program on {name}": name for name in ("jax", "torch") if find_spec(name)}


def main():
    """Measure in turn, print the table, check the numbers."""
    names = ("keras", "tensorflow", "numpy", "jax", "torch")
    versions = [f"{name} {version(name)}" for name in names if find_spec(name)]
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]},", ", ".join(versions))
    runs = {kind: [] for kind in KINDS}
    for turn in range(TURNS):
        for kind in KINDS:
            print(f"turn {turn + 1} of {TURNS}: {kind}", file=sys.stderr)
            runs[kind].append(start_child(kind))
    print_comparison(runs)
    if len({run["digest"] for kind in ("listing", "program") for run in runs[kind]}) != 1:
        sys.exit("\nERROR: the program's history or weights are not those of the listing")
    print("\nHistory and weights of listing and program are the same to the last bit.")


def start_child(kind):
    """Measure a kind in a new process; return what it prints."""
    environment = {**os.environ, "KERAS_BACKEND": KINDS[kind], "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, kind]
    return json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])


def measure(kind):
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

        listing.train(1, EPOCHS, verbose=1)
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        import config
        import train_mnist

        with tempfile.TemporaryDirectory() as folder:
            vars(config).update(NB_EPOCH=EPOCHS, RESULTS_DIR=folder)
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
    main() if len(sys.argv) == 1 else print(json.dumps(measure(sys.argv[1])))
