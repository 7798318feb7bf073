"""What the pictures show: read off the figures, drawn from few made-up numbers."""

import command
import keras
import numpy as np
import pytest
from command import PICTURES, own_lines, read_runs, run, small_program
from matplotlib.image import imread

import config
import train_mnist

# Labels and outputs of three classes: class 0 is taken for 1 twice and never the other way round.
LABELS = np.array([0, 0, 0, 1, 2, 2, 1])
PERCENT = [[80, 20, 0], [40, 60, 0], [10, 90, 0], [0, 99, 1], [30, 0, 70], [70, 0, 30], [9, 90, 1]]
OUTPUTS = np.array(PERCENT) / 100


def images_of(figure):
    """Return the titles and the images as the eye sees them, from 0 (black) to 1 (white)."""
    images = [axes.images[0] for axes in figure.axes]
    assert {image.origin for image in images} == {"upper"}
    shades = [image.cmap(image.norm(image.get_array()))[..., 0] for image in images]
    return [axes.get_title() for axes in figure.axes], shades


def test_curves():
    history = keras.callbacks.History()
    history.epoch = [0, 1, 2]
    values = {"accuracy": [0.1, 0.2, 0.3], "loss": [3, 2, 1], "f1_score": [[0.1, 0.2]] * 3}
    history.history = {**values, "val_accuracy": [0.4, 0.5, 0.6], "val_loss": [6, 5]}
    accuracy, loss = train_mnist.draw_curves(history).axes
    assert (accuracy.get_ylabel(), loss.get_ylabel()) == ("accuracy", "loss")
    assert accuracy.get_xlabel() == loss.get_xlabel() == "epoch"
    shown = {line.get_label(): line.get_xydata().T.tolist() for line in accuracy.lines}
    training, validation = [[1, 2, 3], [0.1, 0.2, 0.3]], [[1, 2, 3], [0.4, 0.5, 0.6]]
    assert shown == {"training": training, "validation": validation}
    assert [text.get_text() for text in accuracy.get_legend().texts] == list(shown)
    (line,) = loss.lines  # val_loss is not of every epoch
    assert line.get_label() == "training" and line.get_ydata().tolist() == [3, 2, 1]


def test_confusion(monkeypatch):
    monkeypatch.setattr(config, "NB_CLASSES", 3)
    (axes,) = train_mnist.draw_confusion(LABELS, OUTPUTS).axes
    assert axes.get_title() == "4 of 7 right (empty: 0)"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
    shown = {text.get_position(): text.get_text() for text in axes.texts}  # (column, row)
    assert shown == {(0, 0): "1", (1, 0): "2", (1, 1): "2", (0, 2): "1", (2, 2): "1"}
    (image,) = axes.images
    assert np.array_equal(image.get_array() > 0, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    assert image.get_array().argmax() == 1 and image.cmap(0.9)[0] < image.cmap(0.1)[0]
    assert not axes.xaxis_inverted() and axes.yaxis_inverted()


def test_mistakes():
    X_test = np.zeros((7, 4))
    X_test[2, 1] = 1  # the most confident mistake has ink in its upper right corner
    figure = train_mnist.draw_mistakes(X_test, LABELS, OUTPUTS)
    assert figure.get_suptitle() == "3 mistakes on the test set: the 3 most confident"
    titles, (first, second, _) = images_of(figure)
    assert titles[:2] == ["0 taken for 1\noutput 0.900", "2 taken for 0\noutput 0.700"]
    assert titles[2] == "0 taken for 1\noutput 0.600"
    assert first.tolist() == [[1, 0], [1, 1]] and second.min() == 1  # ink is black
    many = train_mnist.draw_mistakes(np.zeros((30, 4)), np.zeros(30), np.eye(2)[np.ones(30, int)])
    assert many.get_suptitle() == "30 mistakes on the test set: the 24 most confident"
    assert len(many.axes) == 24
    none = train_mnist.draw_mistakes(X_test, OUTPUTS.argmax(axis=1), OUTPUTS)
    assert none.get_suptitle().startswith("0 mistakes") and not none.axes


@pytest.mark.parametrize("kind, later", [("class", []), ("neuron", [keras.layers.Dense(2)])])
def test_weights(kind, later):
    """Pixel 1, in the upper right corner, speaks for output 2, and pixel 2, below, against it."""
    first = keras.layers.Dense(3, name="first")
    model = keras.Sequential([keras.Input((4,)), first, *later])
    weights = np.zeros((4, 3))
    weights[1, 2], weights[2, 2] = 2, -1
    first.set_weights([weights, np.zeros(3)])
    figure = train_mnist.draw_weights(model)
    assert figure.get_suptitle() == "Weights of first, 3 of 3: white > 0, black < 0"
    titles, images = images_of(figure)
    assert titles == [f"{kind} {number}" for number in range(3)]
    assert images[2] == pytest.approx(np.array([[0.5, 1], [0.25, 0.5]]), abs=0.01)
    filters = keras.layers.Conv2D(30, 3, name="filters")
    model = keras.Sequential([keras.Input((28, 28, 1)), filters, keras.layers.Flatten()])
    figure = train_mnist.draw_weights(model)
    assert "Weights of filters, 24 of 30:" in figure.get_suptitle() and len(figure.axes) == 24
    shown = figure.axes[5].images[0].get_array()
    assert np.array_equal(shown, filters.get_weights()[0][:, :, 0, 5])


def test_pictures_are_the_same_under_any_matplotlibrc(tmp_path):
    """text.usetex asks for LaTeX."""
    settings = "image.origin: lower\ntext.usetex: True\nfigure.facecolor: red\nsavefig.dpi: 30\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    program, pixels = small_program(tmp_path), []
    for environment in ({}, {"MATPLOTLIBRC": str(tmp_path)}):
        assert own_lines(run(program, **environment)) == []
        folder, _ = read_runs(program)[-1]
        pixels.append([imread(folder / picture) for picture in PICTURES])
    assert all(np.array_equal(own, other) for own, other in zip(*pixels, strict=True))


ALONE = {"VALIDATION_SPLIT": 0, "METRICS": ["f1_score"], "LOSS": "mean_squared_error"}
HIDDEN = {"HIDDEN_LAYERS": 2, "N_HIDDEN": 32, "NB_CLASSES": 60, "LOSS": "binary_crossentropy"}


@pytest.mark.parametrize("constants, parameters", [(ALONE, 7850), (HIDDEN, 28156)])
def test_pictures_and_record_of_unusual_runs(tmp_path, constants, parameters):
    program = small_program(tmp_path, **constants)
    assert own_lines(run(program)) == []
    folder, record = read_runs(program)[-1]
    command.check_pictures(folder)
    assert ("val_loss" in record) == (constants is HIDDEN)
    assert 0 < record["test_score"] < 0.75  # of either loss; categorical cross-entropy is above it
    assert keras.saving.load_model(folder / "model.keras").count_params() == parameters
