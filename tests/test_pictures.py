"""What the pictures show: read off the figures, drawn from few made-up numbers."""

import keras
import matplotlib
import numpy as np
import pytest
from command import PICTURES, read_run, read_runs
from matplotlib.figure import Figure
from matplotlib.image import imread

import config
import train_mnist

# Labels and outputs of three classes: class 0 is taken for 1 twice and never the other way round.
LABELS = np.array([0, 0, 0, 1, 2, 2, 1])
OUTPUTS = np.array(
    [
        [0.8, 0.2, 0.0],
        [0.4, 0.6, 0.0],
        [0.1, 0.9, 0.0],
        [0.0, 0.99, 0.01],
        [0.3, 0.0, 0.7],
        [0.7, 0.0, 0.3],
        [0.09, 0.9, 0.01],
    ]
)


def history_of(**values):
    """Return a History, as fit does, with these values of three epochs."""
    history = keras.callbacks.History()
    history.epoch = [0, 1, 2]
    history.history = values
    return history


def lines_of(axes):
    """Return the points of each line by its label."""
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def shades_of(axes):
    """Return an image as the eye sees it: red, green and blue of each pixel, from 0 to 1."""
    (image,) = axes.images
    assert image.origin == "upper"
    return image.cmap(image.norm(image.get_array()))[..., :3]


def test_curves_have_the_epochs_of_training_and_validation():
    history = history_of(accuracy=[0.1, 0.2, 0.3], val_accuracy=[0.4, 0.5, 0.6])
    (axes,) = train_mnist.draw_curves(history).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "accuracy")
    assert lines_of(axes) == {
        "training": [[1, 0.1], [2, 0.2], [3, 0.3]],
        "validation": [[1, 0.4], [2, 0.5], [3, 0.6]],
    }
    assert [text.get_text() for text in axes.get_legend().texts] == ["training", "validation"]


def test_curves_of_loss_and_metrics_stand_side_by_side():
    history = history_of(accuracy=[0.1, 0.2, 0.3], loss=[3, 2, 1])
    accuracy, loss = train_mnist.draw_curves(history).axes
    assert accuracy.get_ylabel() == "accuracy"
    assert loss.get_ylabel() == "loss"
    assert lines_of(loss) == {"training": [[1, 3], [2, 2], [3, 1]]}


def test_curves_leave_out_a_metric_of_many_values():
    history = history_of(loss=[3, 2, 1], f1_score=[[0.1, 0.2]] * 3, val_loss=[3, 2, 1])
    (axes,) = train_mnist.draw_curves(history).axes
    assert axes.get_ylabel() == "loss"


@pytest.fixture
def confusion(monkeypatch):
    """Return the axes of the confusion matrix."""
    monkeypatch.setattr(config, "NB_CLASSES", 3)
    (axes,) = train_mnist.draw_confusion(LABELS, OUTPUTS).axes
    return axes


def test_confusion_counts_labels_by_row_and_predictions_by_column(confusion):
    shown = {text.get_position(): text.get_text() for text in confusion.texts}  # (column, row)
    assert shown == {(0, 0): "1", (1, 0): "2", (1, 1): "2", (0, 2): "1", (2, 2): "1"}
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("predicted", "label")


def test_confusion_begins_in_the_upper_left_corner(confusion):
    assert not confusion.xaxis_inverted()
    assert confusion.yaxis_inverted()


def test_confusion_tells_how_many_are_right(confusion):
    assert confusion.get_title() == "4 of 7 right"


def test_confusion_is_darker_where_there_is_more(confusion):
    red = shades_of(confusion)[..., 0]
    assert red[0, 1] < red[0, 0] < red[1, 0]  # twice, once, never


def test_mistakes_are_in_order_of_confidence():
    figure = train_mnist.draw_mistakes(np.zeros((7, 4)), LABELS, OUTPUTS)
    assert [axes.get_title() for axes in figure.axes] == [
        "0 taken for 1\noutput 0.900",
        "2 taken for 0\noutput 0.700",
        "0 taken for 1\noutput 0.600",
    ]
    assert figure.get_suptitle() == "3 mistakes on the test set: the 3 most confident"


def test_mistakes_show_ink_black_and_upright():
    X_test = np.zeros((7, 4))
    X_test[2, 1] = 1  # the most confident mistake has ink in its upper right corner
    figure = train_mnist.draw_mistakes(X_test, LABELS, OUTPUTS)
    assert shades_of(figure.axes[0])[..., 0].tolist() == [[1, 0], [1, 1]]


def test_mistakes_are_24_at_most():
    outputs = np.eye(2)[np.ones(30, int)]
    figure = train_mnist.draw_mistakes(np.zeros((30, 4)), np.zeros(30), outputs)
    assert figure.get_suptitle() == "30 mistakes on the test set: the 24 most confident"
    assert len(figure.axes) == 24


def test_no_mistakes():
    figure = train_mnist.draw_mistakes(np.zeros((7, 4)), OUTPUTS.argmax(axis=1), OUTPUTS)
    assert figure.get_suptitle() == "0 mistakes on the test set: the 0 most confident"
    assert figure.axes == []


def test_images_that_are_not_square_are_an_error():
    with pytest.raises(ValueError, match="cannot reshape array of size 6"):
        train_mnist.draw_images("", np.zeros((1, 2, 3)), ["two by three"])


def model_with_weights(*later):
    """Return a model whose pixel 1 counts for output 2, and whose pixel 2 counts against it."""
    first = keras.layers.Dense(3, name="first")
    model = keras.Sequential([keras.Input((4,)), first, *later])
    weights = np.zeros((4, 3))
    weights[1, 2] = 2
    weights[2, 2] = -1
    first.set_weights([weights, np.zeros(3)])
    return model


def test_weights_are_blue_for_red_against_and_white_at_0():
    figure = train_mnist.draw_weights(model_with_weights())
    (white, strong_blue), (red, white_too) = shades_of(figure.axes[2])
    assert white.min() > 0.95
    assert white_too.min() > 0.95
    assert strong_blue[2] > 2 * strong_blue[0]
    assert red[0] > 1.2 * red[2]


def test_weights_tell_what_the_colours_mean():
    figure = train_mnist.draw_weights(model_with_weights())
    assert figure.get_suptitle() == "Weights of first, 3 of 3: blue > 0, red < 0"


def test_weights_of_the_only_layer_are_named_by_class():
    figure = train_mnist.draw_weights(model_with_weights())
    assert [axes.get_title() for axes in figure.axes] == ["class 0", "class 1", "class 2"]


def test_weights_of_a_hidden_layer_are_named_by_neuron():
    figure = train_mnist.draw_weights(model_with_weights(keras.layers.Dense(2)))
    assert [axes.get_title() for axes in figure.axes] == ["neuron 0", "neuron 1", "neuron 2"]


def test_weights_of_filters():
    filters = keras.layers.Conv2D(30, 3, name="filters")
    model = keras.Sequential([keras.Input((28, 28, 1)), filters, keras.layers.Flatten()])
    figure = train_mnist.draw_weights(model)
    assert figure.get_suptitle().startswith("Weights of filters, 24 of 30:")
    assert len(figure.axes) == 24
    shown = figure.axes[5].images[0].get_array()
    assert np.array_equal(shown, filters.get_weights()[0][:, :, 0, 5])


def test_weights_are_of_the_first_layer_that_has_a_kernel():
    """BatchNormalization has weights, but none for a neuron."""
    dense = keras.layers.Dense(3, name="dense")
    layers = [keras.Input((4,)), keras.layers.BatchNormalization(), dense]
    figure = train_mnist.draw_weights(keras.Sequential(layers))
    assert figure.get_suptitle().startswith("Weights of dense, 3 of 3:")


def test_a_runs_pictures_are_not_blank(constants, tmp_path):
    train_mnist.main()
    folder, _ = read_run(tmp_path / "results")
    for name in PICTURES:
        pixels = imread(folder / name)
        assert min(pixels.shape[:2]) >= 400
        assert pixels[..., :3].std() > 0.05


def test_a_runs_pictures_are_of_its_own_figures(constants, tmp_path, monkeypatch):
    drawn = {}

    def draw_confusion(y_test, outputs):
        drawn["right"] = np.mean(outputs.argmax(axis=1) == y_test)
        return Figure()

    monkeypatch.setattr(train_mnist, "draw_confusion", draw_confusion)
    record = train_mnist.main()
    assert drawn["right"] == pytest.approx(record["test_accuracy"])


def test_each_picture_is_saved_under_its_name(constants, tmp_path, monkeypatch):
    for inches, name in enumerate(PICTURES, 1):
        figure = Figure(figsize=(inches, 1), dpi=100)
        draw = f"draw_{name.removesuffix('.png')}"
        monkeypatch.setattr(train_mnist, draw, lambda *data, figure=figure: figure)
    model = train_mnist.build_model()
    train_mnist.draw_pictures(tmp_path, None, model, np.zeros((1, 784)), np.zeros(1))
    widths = [imread(tmp_path / name).shape[1] for name in PICTURES]
    assert widths == [100, 200, 300, 400]


def test_pictures_are_the_same_whatever_matplotlib_is_told(constants, tmp_path):
    """text.usetex asks for LaTeX."""
    settings = {"image.origin": "lower", "text.usetex": True, "figure.facecolor": "red"}
    train_mnist.main()
    with matplotlib.rc_context(settings):
        train_mnist.main()
    (first, _), (second, _) = read_runs(tmp_path / "results")
    for name in PICTURES:
        assert np.array_equal(imread(first / name), imread(second / name))
