"""Measure the program beside the listing in plain Keras: python tests/benchmark.py

Every measurement is a process of its own, and they take turns on a machine that is now fast, now
slow. The first epoch, in which the backend compiles, is not counted.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import keras
import numpy as np

TURNS, EPOCHS = 5, 10


def main():
    """Measure in turn; print the seconds of an epoch, and how they compare in each turn."""
    seconds = {"listing": [], "program": []}
    for turn in range(TURNS):
        for kind, turns in seconds.items():
            print(f"turn {turn + 1} of {TURNS}: {kind}", file=sys.stderr)
            turns.append(
                float(subprocess.check_output([sys.executable, __file__, kind]).split()[-1])
            )
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    print(f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.config.backend()}")
    for kind, turns in seconds.items():
        print(f"{kind}: {median(turns):.3f} s an epoch ({min(turns):.3f} to {max(turns):.3f})")
    print(f"{median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


def measure(kind):
    """Train once; return the median of the seconds of each epoch but the first."""
    times = []
    fit = keras.Sequential.fit

    def timed_fit(model, *args, callbacks=(), **kwargs):
        timer = keras.callbacks.LambdaCallback(lambda n, logs: times.append(time.perf_counter()))
        return fit(model, *args, callbacks=[*callbacks, timer], **kwargs)

    keras.Sequential.fit = timed_fit
    if kind == "listing":
        import listing

        listing.train(1, EPOCHS + 1, verbose=1)
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        import config
        import train_mnist

        with tempfile.TemporaryDirectory() as folder:
            vars(config).update(NB_EPOCH=EPOCHS + 1, RESULTS_DIR=folder)
            train_mnist.main()
    return median(np.diff(times)[1:])


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else print(measure(sys.argv[1]))
