"""What the README shows to be pasted does what it says."""

import os
import re
import sys

import keras
import numpy as np
import pytest
from command import MNIST, ROOT, read_csv, run, small_program
from PIL import Image

N = int(os.environ.get("DIGITS", 30))  # of each kind
README = (ROOT / "README.md").read_text("utf-8")
(DIGIT,) = re.findall("```python\n(import keras\n.*?)```", README, re.DOTALL)
(SWEEP,) = re.findall("```python\n(import config\n.*?)```", README, re.DOTALL)
SMALL = (280, 280)


def draw(digit, part=20 / 28, shift=0, size=SMALL, paper=255, ink=0, light=1, noise=0, **later):
    """Draw a digit as people do; light is that of the right edge, paper and ink may be colours."""
    box = Image.fromarray(digit)
    box = box.crop(box.getbbox())
    scale = part * size[0] / max(box.size)
    box = box.resize([max(1, round(side * scale)) for side in box.size])
    field = Image.new("L", size)
    field.paste(box, [int((0.5 + shift) * a - b / 2) for a, b in zip(size, box.size, strict=True)])
    paper, ink = np.ones(3) * paper, np.ones(3) * ink
    pixels = paper + (ink - paper) * np.array(field, float)[:, :, None] / 255
    pixels *= np.linspace(1, light, size[0])[:, None]
    pixels += np.random.default_rng(1671).normal(0, noise, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
    if "clear" in later:
        image = Image.new("RGB", size, tuple(map(int, ink)))
        image.putalpha(field)
        image = image.convert(later["clear"])
    if "area" in later:
        image.paste((40, 40, 40), later["area"])
    return image.rotate(later.get("turn", 0), expand=True)


PHOTO = dict(part=0.4, shift=0.1, size=(480, 640), paper=205, ink=60, light=0.85, noise=5)
STORED = {3: 180, 6: 90, 8: 270}  # what EXIF says, and how the picture is turned
KINDS = {
    "20 of 28 high, centred by its box": {},
    "fills the frame": {"part": 1},
    "40 % of the frame": {"part": 0.4},
    "portrait 3:4": {"size": (300, 400)},
    "photo (grain, uneven light), 40 %, shifted": PHOTO,
    "light falls to 40 % across the sheet": {"part": 0.6, "light": 0.4},
    "white on black": {"paper": 0, "ink": 255},
    "red on blue, of equal grey": {"paper": (0, 0, 255), "ink": (97, 0, 0)},
    "yellow on white": {"ink": (255, 255, 0)},
    "black ink on a clear page (RGBA)": {"clear": "RGBA"},
    "black ink on a clear page (LA)": {"clear": "LA"},
    "red ink on a clear page": {"clear": "RGBA", "ink": (220, 0, 0)},
    "a speck in a corner": {"area": (8, 8, 12, 12)},
    "a dark strip at an edge": {"part": 0.5, "area": (260, 0, 280, 280)},
    **{f"a photo stored turned (EXIF {n})": {**PHOTO, "turn": STORED[n]} for n in STORED},
}


def read_pictures(pictures, path, capsys, exif=None):
    """Paste the README's code for each picture; return what it reads."""
    load, read = DIGIT.replace('"digit.png"', repr(str(path))).split("image = ")
    exec(load, pasted := {})
    for picture in pictures:
        picture.save(path, "JPEG" if exif else "PNG", exif=exif)
        exec("image = " + read, pasted)
    return [int(line[0]) for line in capsys.readouterr().out.splitlines() if line[0].isdigit()]


@pytest.mark.parametrize("kind", KINDS)
def test_own_digit(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(ROOT)
    with np.load(MNIST) as arrays:
        images, labels = arrays["x_test"][:N], arrays["y_test"][:N]
    (exif := Image.Exif())[0x0112] = int(kind[-2]) if "EXIF" in kind else 1
    pictures = [draw(image, **KINDS[kind]) for image in images]
    found = read_pictures(pictures, tmp_path / "digit", capsys, exif if "EXIF" in kind else None)
    model = keras.saving.load_model("results/reference/model.keras")
    network = model.predict(images.reshape(N, 784) / np.float32(255), verbose=0).argmax(axis=1)
    print(f"| {kind} | {np.mean(found == labels):.2f} |")  # for results/reference/README.md
    assert np.mean(found == labels) >= np.mean(network == labels) - 0.1


def test_blank_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match="blank, or ink and paper are too alike"):
        read_pictures([Image.new("L", SMALL, 200)], tmp_path / "digit", capsys)


def test_several_runs(tmp_path):
    program = small_program(tmp_path, METRICS=["accuracy", "precision"])
    again = "config.SEED = 1\ntrain_mnist.main()"
    output = run(program, command=[sys.executable, "-c", SWEEP + again]).stdout
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["SEED"] for row in rows] == ["1", "2", "3", "1"] and "dense_1" not in output
    shown = [f"{row['SEED']} {row['val_accuracy']}" for row in rows[:3]]
    assert [line for line in output.splitlines() if line in shown] == shown
    assert rows[0]["loss"] == rows[3]["loss"] != rows[1]["loss"]
