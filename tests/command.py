"""Run the real command on an edited copy of config.py, the way users work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def run(folder, *arguments, cwd=None, **environment):
    """Run `python train_mnist.py` of folder; return the finished process."""
    return subprocess.run(
        [sys.executable, str(folder / "train_mnist.py"), *arguments],
        cwd=cwd or folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def own_lines(stderr):
    """Return the lines of standard error without what TensorFlow itself logs there."""
    chatter = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:|[IWE]0000 ")
    return [line for line in stderr.splitlines() if not chatter.match(line)]
