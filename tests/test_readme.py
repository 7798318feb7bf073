"""What the README shows to be pasted does what it says."""

import os
import re
import sys

import keras
import numpy as np
import pytest
from command import MNIST, ROOT, edit_config, edit_script, read_csv, read_run, run
from PIL import Image

README = (ROOT / "README.md").read_text("utf-8")
(SEEDS,) = re.findall(r"```python\n(import config\n.*?)```", README, re.DOTALL)
(DIGIT,) = re.findall(r"```python\n(import keras\n.*?)```", README, re.DOTALL)


def test_several_runs(program):
    (program / "seeds.py").write_text(SEEDS, "utf-8")
    stdout, _ = run(program, command=[sys.executable, "seeds.py"])
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["SEED"] for row in rows] == ["1", "2", "3"]
    shown = [f"{row['SEED']} {row['val_accuracy']}" for row in rows]
    assert [line for line in stdout.splitlines() if line in shown] == shown


def test_another_layer(program):
    layer = '    model.add(Dense(64))\n    model.add(Activation("relu"))\n'
    assert layer.replace("    model", "      model") in README
    last = "    model.add(Dense(config.NB_CLASSES))"
    edit_script(program, last, layer + last)
    run(program)
    folder, _ = read_run(program / "results")
    model = keras.saving.load_model(folder / "model.keras")
    assert model.count_params() == 784 * 64 + 64 + 64 * 10 + 10


def test_a_constant_of_ones_own(program):
    line = "    optimizer.momentum = config.MOMENTUM\n"
    assert line.replace("    optimizer", "      optimizer") in README
    last = "    return optimizer\n"
    edit_config(program, MOMENTUM=0.5)
    edit_script(program, last, line + last)
    run(program)
    folder, record = read_run(program / "results")
    assert record["constants"]["MOMENTUM"] == 0.5
    assert keras.saving.load_model(folder / "model.keras").optimizer.momentum == 0.5


def test_a_callback_goes_last_in_callbacks(program):
    callback = "keras.callbacks.EarlyStopping(patience=3)"
    assert callback in README
    edit_config(program, NB_EPOCH=50, LEARNING_RATE=2.0)
    edit_script(program, "[history_csv, run]", f"[history_csv, run, {callback}]")
    run(program)
    _, record = read_run(program / "results")
    assert record["status"] == "finished"
    assert record["epochs"] < 50


N = int(os.environ.get("DIGITS", 30))  # pictures of each kind


def sheet(digit, part=0.7, shift=0.0, size=(280, 280)):
    """Draw a digit's ink, from 0 to 255, as large as this part of the width, and shifted."""
    ink = Image.fromarray(digit)
    ink = ink.crop(ink.getbbox())
    scale = part * size[0] / max(ink.size)
    ink = ink.resize([max(1, round(side * scale)) for side in ink.size])
    field = Image.new("L", size)
    left = int((0.5 + shift) * size[0] - ink.width / 2)
    top = int((0.5 + shift) * size[1] - ink.height / 2)
    field.paste(ink, (left, top))
    return field


def black_on_white(digit):
    return sheet(digit).point(lambda ink: 255 - ink)


def white_on_black(digit):
    return sheet(digit)


def fills_the_frame(digit):
    return sheet(digit, part=1).point(lambda ink: 255 - ink)


def red_on_a_clear_page(digit):
    picture = Image.new("RGB", (280, 280), (220, 0, 0))
    picture.putalpha(sheet(digit))
    return picture


def photo(digit):
    """A small digit, aside, on grey paper in uneven light, with the camera's grain."""
    ink = np.array(sheet(digit, part=0.4, shift=0.1, size=(480, 640)), float) / 255
    pixels = (205 - 145 * ink) * np.linspace(1, 0.85, 480)
    pixels += np.random.default_rng(1671).normal(0, 5, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def photo_turned(digit):
    """As a camera held on its side stores it; its EXIF data say how to turn it back."""
    return photo(digit).rotate(90, expand=True)


KINDS = [
    black_on_white,
    white_on_black,
    fills_the_frame,
    red_on_a_clear_page,
    photo,
    photo_turned,
]


@pytest.fixture
def read(tmp_path, monkeypatch, capsys):
    """Return a function that saves a picture as digit.png and returns what digit.py reads."""
    monkeypatch.chdir(tmp_path)
    model = repr(str(ROOT / "results" / "reference" / "model.keras"))
    code = compile(DIGIT.replace('"results/reference/model.keras"', model), "digit.py", "exec")
    loaded = keras.saving.load_model(ROOT / "results" / "reference" / "model.keras")
    monkeypatch.setattr(keras.saving, "load_model", lambda path: loaded)  # once for all pictures

    def read_picture(picture, exif=None):
        picture.save("digit.png", "JPEG" if exif else "PNG", exif=exif)
        exec(code, {})
        digit, probability = capsys.readouterr().out.split()
        assert 0.1 < float(probability) <= 1
        return int(digit)

    return read_picture


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_own_digit(read, kind):
    with np.load(MNIST) as arrays:
        images = arrays["x_test"][:N]
        labels = arrays["y_test"][:N]
    exif = None
    if kind is photo_turned:
        exif = Image.Exif()
        exif[0x0112] = 6  # turn it by 90 degrees to the right
    found = [read(kind(image), exif) for image in images]
    model = keras.saving.load_model(None)
    network = model.predict(images.reshape(N, 784) / np.float32(255), verbose=0).argmax(axis=1)
    right = np.mean(found == labels)
    print(f"{kind.__name__}: {right:.3f}; network {np.mean(network == labels):.3f}")
    assert right >= np.mean(network == labels) - 0.05


def test_a_blank_picture_is_told(read):
    with pytest.raises(AssertionError, match="the picture is blank, or ink and paper are"):
        read(Image.new("L", (280, 280), 200))
