# The constants of train_mnist.py: edit a value, save, run. The book's first program, with these
# values, is called the listing.

# reproducibility
SEED = 1671  # seeds Python, NumPy and the backend; from 0 to 4294967295

# data
DATA_PATH = "data/mnist.npz"  # has x_train, y_train, x_test, y_test; None: Keras downloads MNIST
RESHAPED = 784  # an image's 28 x 28 values as one row; the pictures take images to be square
NB_CLASSES = 10  # number of outputs = number of digits
VALIDATION_SPLIT = 0.2  # how much TRAIN is reserved for VALIDATION: its last part; 0 for none

# network
HIDDEN_LAYERS = 0  # Dense(N_HIDDEN) + ReLU layers before the output; 0 is the listing's network
N_HIDDEN = 128  # neurons in each hidden layer; no effect while HIDDEN_LAYERS is 0
DROPOUT = 0.0  # from 0 to below 1: which part of a hidden layer's outputs is dropped in training

# training
NB_EPOCH = 200  # passes over the training data
BATCH_SIZE = 128  # images observed before each update of the weights
OPTIMIZER = "sgd"  # a name that Keras knows: "rmsprop", "adam", ...; or an object of Keras's
LEARNING_RATE = None  # a number above 0, a schedule of Keras's, or None: the optimizer's own
LOSS = "categorical_crossentropy"  # or "mean_squared_error", "binary_crossentropy", ...
METRICS = ["accuracy"]  # names or objects: "precision", "recall", "f1_score", ...

# speed: changes no results
# Training steps that Keras hands to TensorFlow in one go; the progress bar counts them together.
# Set 1 for PyTorch, for a callback that acts on batches, and for steps_per_epoch or
# validation_steps in fit.
STEPS_PER_EXECUTION = 125

# results
RESULTS_DIR = "results"  # where each run makes a folder of its own; ~ is the home folder

# console
VERBOSE = 1  # what Keras shows of each epoch: 0 nothing, 1 a progress bar, 2 a line
