# The constants of train_mnist.py: edit a value, save, run.

# reproducibility
SEED = 1671  # starts the random numbers of Python, NumPy and the backend: 0 to 4294967295

# data
DATA_PATH = "data/mnist.npz"  # an .npz like Keras's mnist.npz; None lets Keras download that one
RESHAPED = 784  # values of an image laid out in a row: 28 x 28
NB_CLASSES = 10  # number of outputs = number of digits
VALIDATION_SPLIT = 0.2  # how much TRAIN is reserved for VALIDATION; 0 for none

# network
HIDDEN_LAYERS = 0  # Dense(N_HIDDEN) + ReLU layers before the output; 0 is the listing's network
N_HIDDEN = 128  # neurons in each hidden layer

# training
NB_EPOCH = 200  # how often the training part is gone through
BATCH_SIZE = 128  # images observed before each update of the weights
OPTIMIZER = "sgd"  # any name that keras.optimizers.get knows: "rmsprop", "adam", ...
LEARNING_RATE = None  # None for the optimizer's own default (SGD: 0.01)
LOSS = "categorical_crossentropy"  # or "mean_squared_error", "binary_crossentropy", ...
METRICS = ["accuracy"]  # more can follow: "precision", "recall", ...

# speed
STEPS_PER_EXECUTION = 125  # steps for each call into the backend; 1 is what Keras does by itself

# results
RESULTS_DIR = "results"  # where each run leaves a folder of its own

# console
VERBOSE = 1  # what Keras shows of each epoch: 0 nothing, 1 a progress bar, 2 a line
