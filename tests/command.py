"""Run the real command on an edited copy of config.py, the way users work, and read its results."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT / "data" / "mnist.npz"
REFERENCE = ROOT / "results" / "reference"
# The constants as supplied: the tests start from these, whatever config.py now says.
SUPPLIED = json.loads((REFERENCE / "run.json").read_text("utf-8"))["constants"]
PICTURES = ["curves.png", "confusion.png", "mistakes.png", "weights.png"]
FILES = sorted([*PICTURES, "history.csv", "model.keras", "run.json"])
CTRL_C = "__import__('signal').raise_signal(2)"  # as it stands in the script

ENVIRONMENT = dict(os.environ)  # before anything that is imported or called here changes it
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX's signals or file limits")


def copy_program(folder, **constants):
    """Copy the program into folder, with the constants as supplied but for these; return it."""
    folder.mkdir(exist_ok=True)
    for name in ("train_mnist.py", "config.py"):
        shutil.copy(ROOT / name, folder)
    return edit_config(folder, **{**SUPPLIED, "DATA_PATH": str(MNIST), **constants})


def small_program(tmp_path, **constants):
    """Copy the program for quick runs on a few digits."""
    np.savez(tmp_path / "digits.npz", **digits())
    defaults = {"DATA_PATH": str(tmp_path / "digits.npz"), "NB_EPOCH": 2, "VERBOSE": 0}
    return copy_program(tmp_path / "program", **{**defaults, **constants})


def digits():
    """Return the first 500 and 100 digits of MNIST, by the keys of the .npz file."""
    with np.load(MNIST) as arrays:
        return {key: arrays[key][: 500 if "train" in key else 100] for key in arrays}


def edit_config(folder, **constants):
    """Give constants new values in folder's config.py, or add them there; return the folder."""
    text = (folder / "config.py").read_text("utf-8")
    for name, value in constants.items():
        line = f"{name} = {value!r}"
        text, found = re.subn(rf"^{name} = .*", lambda _, new=line: new, text, flags=re.MULTILINE)
        text += "" if found else line + "\n"
    (folder / "config.py").write_text(text, "utf-8")
    return folder


def edit_script(folder, old, new):
    """Replace text that stands once in folder's train_mnist.py."""
    text = (folder / "train_mnist.py").read_text("utf-8")
    assert text.count(old) == 1
    (folder / "train_mnist.py").write_text(text.replace(old, new), "utf-8")


def add_callback(folder, callback):
    """Hand a callback, as it stands in the script, to fit, after the program's own."""
    edit_script(folder, "run],", f"run, {callback}],")


def start(folder, *arguments, cwd=None, command=None, **environment):
    """Start `python train_mnist.py` of folder, or another command there; return the process."""
    command = command or [sys.executable, str(folder / "train_mnist.py"), *arguments]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    text = {"stdin": subprocess.DEVNULL, "encoding": "utf-8", "errors": "replace"}
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.Popen(command, cwd=cwd or folder, env=environment, **pipes, **text)


def finish(process, exits=0):
    """Wait for a started process, check its exit code, return its output as subprocess.run does."""
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == exits, stderr
    return subprocess.CompletedProcess(process.args, exits, stdout, stderr)


def run(folder, *arguments, exits=0, **settings):
    """Run the command to its end; check its exit code and return the finished process."""
    return finish(start(folder, *arguments, **settings), exits)


def wait_until(condition, process, seconds=120):
    """Wait until condition() is true, while process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, "ended or timed out"
        time.sleep(0.01)


def own_lines(process):
    """Return the lines of standard error without what TensorFlow itself logs there."""
    chatter = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:|[IWE]0000 ")
    return [line for line in process.stderr.splitlines() if line and not chatter.match(line)]


def sha256(path):
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_csv(path):
    """Read a .csv file as a list of dicts."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_runs(program):
    """Return the folder and the run.json of each of the program's runs, the oldest first."""
    folders = sorted((program / "results").glob("2*"))
    return [(f, json.loads((f / "run.json").read_text("utf-8"))) for f in folders]


def file_names(folder):
    """Return the names of a folder's files, in order."""
    return sorted(path.name for path in folder.iterdir())


def check_pictures(folder, names=PICTURES):
    """Check that the pictures are whole and not blank."""
    for name in names:
        pixels = imread(folder / name)
        assert pixels.shape[0] >= 400 and pixels.shape[1] >= 600
        assert pixels[..., :3].std() > 0.05


def evaluate(path):
    """Return the loss and accuracy of a saved model on the test set of small_program."""
    arrays = digits()
    X_test = arrays["x_test"].reshape(100, 784) / np.float32(255)
    Y_test = keras.utils.to_categorical(arrays["y_test"], 10)
    return keras.saving.load_model(path).evaluate(X_test, Y_test, verbose=0)
