"""Run the real command on an edited copy of the program, the way users work; read its results."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT / "data" / "mnist.npz"
REFERENCE = ROOT / "results" / "reference"
# The constants as supplied: the tests start from these, whatever config.py now says.
SUPPLIED = json.loads((REFERENCE / "run.json").read_text("utf-8"))["constants"]
PICTURES = ["confusion.png", "curves.png", "mistakes.png", "weights.png"]
RECORDS = ["history.csv", "model.keras", "run.json"]
FILES = sorted(PICTURES + RECORDS)

ENVIRONMENT = dict(os.environ)  # before anything that is imported or called here changes it
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX's signals or file limits")

# For a copy's config.py: the third epoch tells, by a file and a line, that it waits for Ctrl-C.
PAUSE = """
import time
import keras

class PausingLogger(keras.callbacks.CSVLogger):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            open(__file__ + ".pausing", "w").close()
            print("pausing", flush=True)
            time.sleep(100)

keras.callbacks.CSVLogger = PausingLogger
"""


def first_digits():
    """Return the first 500 and 100 digits of MNIST, by the keys of the .npz file."""
    with np.load(MNIST) as arrays:
        return {
            "x_train": arrays["x_train"][:500],
            "y_train": arrays["y_train"][:500],
            "x_test": arrays["x_test"][:100],
            "y_test": arrays["y_test"][:100],
        }


def copy_program(folder, **constants):
    """Copy the program into folder, with the constants as supplied but for these; return it."""
    folder.mkdir()
    shutil.copy(ROOT / "train_mnist.py", folder)
    shutil.copy(ROOT / "config.py", folder)
    edit_config(folder, **SUPPLIED)
    edit_config(folder, DATA_PATH=str(MNIST))
    edit_config(folder, **constants)
    return folder


def edit_config(folder, **constants):
    """Give constants new values in folder's config.py, or add them there."""
    text = (folder / "config.py").read_text("utf-8")
    for name, value in constants.items():
        line = f"{name} = {value!r}"
        text, found = re.subn(rf"^{name} = .*", lambda _, new=line: new, text, flags=re.MULTILINE)
        if not found:
            text += line + "\n"
    (folder / "config.py").write_text(text, "utf-8")


def add_to_config(folder, code):
    """Add code at the end of folder's config.py."""
    with open(folder / "config.py", "a", encoding="utf-8") as file:
        file.write(code)


def edit_script(folder, old, new):
    """Replace text that stands once in folder's train_mnist.py."""
    text = (folder / "train_mnist.py").read_text("utf-8")
    assert text.count(old) == 1
    (folder / "train_mnist.py").write_text(text.replace(old, new), "utf-8")


@contextmanager
def started(folder, command=None, cwd=None, **environment):
    """Start `python train_mnist.py`, or another command, in folder; end it with the block."""
    process = subprocess.Popen(
        command or [sys.executable, str(folder / "train_mnist.py")],
        cwd=cwd or folder,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "utf-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process, exits=0):
    """Wait for a started process and check its exit code; return standard output and error."""
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == exits, stderr
    return stdout, stderr


def run(folder, exits=0, **settings):
    """Run the command to its end and check its exit code; return standard output and error."""
    with started(folder, **settings) as process:
        return finish(process, exits)


def wait_until(condition, process):
    """Wait until condition() is true, while process runs."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def own_lines(stderr):
    """Return the lines of standard error without what TensorFlow itself logs there."""
    chatter = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:|[IWE]0000 ")
    return [line for line in stderr.splitlines() if line and not chatter.match(line)]


def sha256(path):
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_csv(path):
    """Read a .csv file as a list of dicts."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_runs(results):
    """Return the folder and the run.json of each run in results, the oldest first."""
    folders = sorted(results.glob("2*"))
    return [(folder, json.loads((folder / "run.json").read_text("utf-8"))) for folder in folders]


def read_run(results):
    """Return the folder and the run.json of the only run in results."""
    (run,) = read_runs(results)
    return run


def file_names(folder):
    """Return the names of a folder's files, in order."""
    return sorted(path.name for path in folder.iterdir())


def evaluate(path):
    """Return the loss and accuracy of a saved model on the 100 test digits of first_digits."""
    arrays = first_digits()
    X_test = arrays["x_test"].reshape(100, 784) / np.float32(255)
    Y_test = keras.utils.to_categorical(arrays["y_test"], 10)
    return keras.saving.load_model(path).evaluate(X_test, Y_test, verbose=0)
