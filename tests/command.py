"""Run the real command on an edited copy of config.py, the way users work."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def copy_program(folder, **constants):
    """Copy the program and its data into folder, edit the constants, return the folder."""
    folder.mkdir(exist_ok=True)
    for name in ("train_mnist.py", "config.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "data").symlink_to(ROOT / "data")
    edit_config(folder, **constants)
    return folder


def edit_config(folder, **constants):
    """Give constants new values in folder's config.py; a name that is not there yet is added."""
    config = folder / "config.py"
    text = config.read_text()
    for name, value in constants.items():
        line = f"{name} = {value!r}"
        text, found = re.subn(rf"^{name} = .*", lambda _, new=line: new, text, flags=re.MULTILINE)
        if not found:
            text += line + "\n"
    config.write_text(text)


def save_digits(path, n_train=20, n_test=10):
    """Save a small data set of the right kind: the first digits of MNIST."""
    np.savez(path, **digits(n_train, n_test))


def digits(n_train=20, n_test=10):
    """Return the first digits of MNIST, by the keys of the .npz file."""
    sizes = {"train": n_train, "test": n_test}
    with np.load(ROOT / "data" / "mnist.npz") as arrays:
        return {key: arrays[key][: sizes[key[2:]]] for key in arrays}


def start(folder, *arguments, cwd=None, preexec_fn=None, **environment):
    """Start `python train_mnist.py` of folder; return the process, whose output can be read."""
    return subprocess.Popen(
        [sys.executable, str(folder / "train_mnist.py"), *arguments],
        cwd=cwd or folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
    )


def finish(process):
    """Wait for a started process; return it with its output as text, as subprocess.run does."""
    stdout, stderr = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run(folder, *arguments, **settings):
    """Run `python train_mnist.py` of folder to its end; return the finished process."""
    return finish(start(folder, *arguments, **settings))


def wait_until(condition, process, seconds=120):
    """Wait until condition() is true, while process runs; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return value


def own_lines(stderr):
    """Return the lines of standard error without what TensorFlow itself logs there."""
    chatter = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:|[IWE]0000 ")
    return [line for line in stderr.splitlines() if not chatter.match(line)]
