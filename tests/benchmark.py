"""Measure the program beside the listing in plain Keras: python tests/benchmark.py

Whole commands of 1 and of 21 epochs, whose difference is the time of 20 epochs, take turns on a
machine that is now fast, now slow.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import keras
from command import ROOT, copy_program, run

TURNS = 5
EPOCHS = 20


def run_listing(epochs):
    """Train the listing in plain Keras."""
    code = f"import listing; listing.train(1, {epochs}, verbose=1)"
    run(ROOT / "tests", command=[sys.executable, "-c", code])


def run_program(epochs):
    """Run the program, as users do."""
    with tempfile.TemporaryDirectory() as folder:
        run(copy_program(Path(folder) / "program", NB_EPOCH=epochs))


def seconds_an_epoch(run_whole):
    """Return how long an epoch takes, in seconds."""
    seconds = []
    for epochs in (1, 1 + EPOCHS):
        start = time.perf_counter()
        run_whole(epochs)
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / EPOCHS


def show(name, seconds):
    """Print the median of some seconds, the least and the greatest."""
    print(f"{name}: {median(seconds):.3f} s an epoch ({min(seconds):.3f} to {max(seconds):.3f})")


listing = []
program = []
ratios = []
for turn in range(TURNS):
    print(f"turn {turn + 1} of {TURNS}", file=sys.stderr)
    listing.append(seconds_an_epoch(run_listing))
    program.append(seconds_an_epoch(run_program))
    ratios.append(listing[-1] / program[-1])
print(f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.config.backend()}")
show("listing", listing)
show("program", program)
print(f"{median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
