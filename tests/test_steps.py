"""The steps of the listing, with real MNIST and real Keras, in this process."""

import sys

import keras
import numpy as np
import pytest

import config
import train_mnist


@pytest.fixture
def fitted(monkeypatch, tmp_path):
    """Run main for one epoch; return the model and what it was fitted on, with the real fit."""
    calls = []
    fit = keras.Sequential.fit

    def watched_fit(model, *args, **kwargs):
        calls.append((model, args, kwargs))
        return fit(model, *args, **kwargs)

    monkeypatch.setattr(keras.Sequential, "fit", watched_fit)
    monkeypatch.setattr(sys, "argv", ["train_mnist.py"])
    monkeypatch.setattr(config, "NB_EPOCH", 1)
    monkeypatch.setattr(config, "VERBOSE", 0)
    monkeypatch.setattr(config, "RESULTS_DIR", str(tmp_path))
    keras.utils.clear_session()
    train_mnist.main()
    (call,) = calls
    return call


def test_fit_gets_rows_from_0_to_1_and_one_hot_labels(fitted):
    _, (X_train, Y_train), settings = fitted
    (images, labels), _ = train_mnist.load_data()
    assert X_train.shape == (60000, 784) and X_train.dtype == np.float32
    assert X_train.min() == 0 and X_train.max() == 1
    assert np.array_equal(np.rint(X_train[:100] * 255), images[:100].reshape(100, 784))
    assert Y_train.shape == (60000, 10)
    assert np.array_equal(Y_train.sum(axis=1), np.ones(60000)) and set(np.unique(Y_train)) == {0, 1}
    assert np.array_equal(Y_train.argmax(axis=1), labels)
    assert settings["batch_size"] == 128 and settings["validation_split"] == 0.2


def test_model_is_compiled_and_trained_as_the_listing_says(fitted):
    model, _, _ = fitted
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert float(model.optimizer.momentum) == 0
    assert model.loss == "categorical_crossentropy"
    assert list(model.get_metrics_result()) == ["loss", "accuracy"]
    assert int(model.optimizer.iterations) == 375  # 48,000 of 60,000 samples, in batches of 128
    probabilities = model.predict(np.random.default_rng(0).random((50, 784), "float32"), verbose=0)
    assert probabilities.shape == (50, 10) and probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_network_of_the_listing():
    model = train_mnist.build_model()
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Activation"]
    assert model.count_params() == 784 * 10 + 10 == 7850
    assert model.input_shape == (None, 784) and model.output_shape == (None, 10)
    assert model.layers[-1].activation is keras.activations.softmax


@pytest.mark.parametrize("hidden_layers, parameters", [(1, 101770), (2, 118282), (3, 134794)])
def test_hidden_layers(monkeypatch, hidden_layers, parameters):
    monkeypatch.setattr(config, "HIDDEN_LAYERS", hidden_layers)
    model = train_mnist.build_model()
    assert model.count_params() == parameters
    *hidden, _, softmax = model.layers
    assert [layer.units for layer in hidden[::2]] == [128] * hidden_layers
    assert all(layer.activation is keras.activations.relu for layer in hidden[1::2])
    assert softmax.activation is keras.activations.softmax


def test_learning_rate_is_the_one_set(monkeypatch):
    monkeypatch.setattr(config, "OPTIMIZER", "rmsprop")
    assert float(train_mnist.build_optimizer().learning_rate) == pytest.approx(0.001)
    monkeypatch.setattr(config, "LEARNING_RATE", 1)
    assert float(train_mnist.build_optimizer().learning_rate) == 1
    monkeypatch.setattr(config, "LEARNING_RATE", 0.25)
    optimizer = train_mnist.build_optimizer()
    assert isinstance(optimizer, keras.optimizers.RMSprop)
    assert float(optimizer.learning_rate) == 0.25
