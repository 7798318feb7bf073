"""What the README shows to be pasted does what it says."""

import re
import shutil
import sys

import numpy as np
import pytest
from command import MNIST, ROOT, read_csv, run, small_program
from PIL import Image, ImageDraw

DIGIT, SWEEP = re.findall("```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def drawn_seven():
    """Draw a black 7 on white as the README says: thick, high enough, centred by its mass."""
    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).line([(75, 80), (180, 80), (120, 245)], fill=0, width=26, joint="curve")
    return image


def photographed_digit(at):
    """Turn a test image of MNIST into a larger picture, dark grey on light grey."""
    with np.load(MNIST) as arrays:
        grey = 220 - arrays["x_test"][at] * 0.7
    return Image.fromarray(grey.astype("uint8")).resize((280, 280))


@pytest.mark.parametrize("image, digit", [(drawn_seven(), 7), (photographed_digit(1), 2)])
def test_own_digit(tmp_path, monkeypatch, capsys, image, digit):
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "results" / "reference")
    image.save(tmp_path / "digit.png")
    monkeypatch.chdir(tmp_path)
    exec(DIGIT, {})
    label, probability = capsys.readouterr().out.split()
    assert int(label) == digit and float(probability) > 0.5


AGAIN = """
config.SEED = 1
assert train_mnist.main() == 0
import signal
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_sweep_and_one_of_its_runs_again(tmp_path):
    program = small_program(tmp_path, METRICS=["accuracy", "precision"])
    run(program, command=[sys.executable, "-c", SWEEP + AGAIN])
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["SEED"] for row in rows] == ["1", "2", "3", "1"]
    assert all(row["status"] == "finished" and row["val_accuracy"] for row in rows)
    assert rows[0]["loss"] == rows[3]["loss"] != rows[1]["loss"]
