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

TURNS, EPOCHS = 5, 20


def seconds(kind, epochs):
    """Return how long the listing or the program takes, as users run it, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        program = copy_program(Path(folder) / "program", NB_EPOCH=epochs)
        code = [sys.executable, "-c", f"import listing; listing.train(1, {epochs}, verbose=1)"]
        start = time.perf_counter()
        run(ROOT / "tests", command=code) if kind == "listing" else run(program)
        return time.perf_counter() - start


times = {"listing": [], "program": []}
for turn in range(TURNS):
    for kind, turns in times.items():
        print(f"turn {turn + 1} of {TURNS}: {kind}", file=sys.stderr)
        turns.append((seconds(kind, 1 + EPOCHS) - seconds(kind, 1)) / EPOCHS)
ratios = [a / b for a, b in zip(*times.values(), strict=True)]
print(f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.config.backend()}")
for kind, turns in times.items():
    print(f"{kind}: {median(turns):.3f} s an epoch ({min(turns):.3f} to {max(turns):.3f})")
print(f"{median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
