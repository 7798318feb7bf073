"""What the README shows to be pasted does what it says."""

import re
import sys

import keras
import numpy as np
import pytest
from command import MNIST, ROOT, read_csv, run, small_program
from PIL import Image

DIGIT, SWEEP = re.findall("```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def draw(digit, part=20 / 28, shift=0, size=(280, 280), paper=255, ink=0, light=1, noise=0):
    """Draw a digit of MNIST as people do; part is how high or wide it is of the picture's width."""
    box = Image.fromarray(digit)
    box = box.crop(box.getbbox())
    scale = part * size[0] / max(box.size)
    box = box.resize([max(1, round(side * scale)) for side in box.size])
    field = Image.new("L", size)
    field.paste(box, [int((0.5 + shift) * a - b / 2) for a, b in zip(size, box.size, strict=True)])
    grey = (paper + (ink - paper) * np.array(field, float) / 255) * np.linspace(1, light, size[0])
    grey += np.random.default_rng(1671).normal(0, noise, grey.shape)
    return Image.fromarray(grey.clip(0, 255).astype("uint8"))


PHOTO = {"size": (480, 640), "paper": 205, "ink": 60, "light": 0.85, "noise": 5}
KINDS = {
    "20 of 28 high, centred by its box": {},
    "fills the frame": {"part": 1},
    "40 % of the frame": {"part": 0.4},
    "60 %, shifted by 10 %": {"part": 0.6, "shift": 0.1},
    "portrait 3:4": {"size": (300, 400)},
    "photo, 40 %, shifted": {"part": 0.4, "shift": 0.1, **PHOTO},
    "light falls to 80 % across the sheet": {"light": 0.8},
    "white on black": {"paper": 0, "ink": 255},
}


def read_pictures(pictures, folder, capsys):
    """Paste the README's code for each picture, but load the model once; return what it reads."""
    path = folder / "digit.png"
    load, read = DIGIT.replace('"digit.png"', repr(str(path))).split("image = ")
    exec(load, pasted := {})
    for picture in pictures:
        picture.save(path)
        exec("image = " + read, pasted)
    return [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_own_digit(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(ROOT)
    with np.load(MNIST) as arrays:
        images, labels = arrays["x_test"][:50], arrays["y_test"][:50]
    found = read_pictures([draw(image, **KINDS[kind]) for image in images], tmp_path, capsys)
    model = keras.saving.load_model("results/reference/model.keras")
    network = model.predict(images.reshape(50, 784) / np.float32(255), verbose=0).argmax(axis=1)
    assert np.mean(found == labels) >= np.mean(network == labels) - 0.1


def test_blank_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match="blank"):
        read_pictures([Image.new("L", (280, 280), 200)], tmp_path, capsys)


def test_several_runs(tmp_path):
    program = small_program(tmp_path, METRICS=["accuracy", "precision"])
    again = "config.SEED = 1\ntrain_mnist.main()"
    output = run(program, command=[sys.executable, "-c", SWEEP + again]).stdout
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["SEED"] for row in rows] == ["1", "2", "3", "1"]
    assert all(row["status"] == "finished" and row["val_accuracy"] for row in rows)
    shown = [f"{row['SEED']} {row['val_accuracy']}" for row in rows[:3]]
    assert [line for line in output.splitlines() if line in shown] == shown
    assert rows[0]["loss"] == rows[3]["loss"] != rows[1]["loss"]
