"""The four programs of the book's chapter in plain Keras 3, with nothing of train_mnist.py."""

from pathlib import Path

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout

# hidden layers of 128 neurons, dropout after each, optimizer
PROGRAMS = {1: (0, 0, "sgd"), 2: (2, 0, "sgd"), 3: (2, 0.3, "sgd"), 4: (2, 0.3, "rmsprop")}


def train(program, epochs, verbose=0):
    """Train a program; return the history, a dict, the weights, and the test score and accuracy."""
    hidden_layers, dropout, optimizer = PROGRAMS[program]
    keras.utils.set_random_seed(1671)
    with np.load(Path(__file__).resolve().parents[1] / "data" / "mnist.npz") as arrays:
        X_train = arrays["x_train"].reshape(60000, 784).astype("float32") / 255
        X_test = arrays["x_test"].reshape(10000, 784).astype("float32") / 255
        Y_train = keras.utils.to_categorical(arrays["y_train"], 10)
        Y_test = keras.utils.to_categorical(arrays["y_test"], 10)
    model = keras.Sequential([keras.Input((784,))])
    for _ in range(hidden_layers):
        model.add(Dense(128))
        model.add(Activation("relu"))
        if dropout:
            model.add(Dropout(dropout))
    model.add(Dense(10))
    model.add(Activation("softmax"))
    model.compile(loss="categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])
    settings = {"batch_size": 128, "epochs": epochs, "validation_split": 0.2}
    history = model.fit(X_train, Y_train, verbose=verbose, **settings)
    return history.history, model.get_weights(), model.evaluate(X_test, Y_test, verbose=verbose)
