"""The program as people call it: from a loop, a thread, another folder, an editor's window."""

import re
import sys

import command
from command import own_lines, read_csv, read_runs, run, small_program

LOOP = """
import os, threading
os.environ["MPLBACKEND"] = "svg"
import config, train_mnist
import numpy as np
assert os.environ["MPLBACKEND"] == "svg" and "TF_NUM_INTRAOP_THREADS" not in os.environ
for config.SEED, config.LEARNING_RATE in zip(np.arange(1, 6), [0.1, 0.1, None, None, 1e20]):
    if config.SEED == 2:
        config.LERNING_RATE = np.float32(0.1)
    try:
        print("returned", train_mnist.main()["status"])
    except ValueError as error:
        print("raised", type(error).__name__, error)
        del config.LERNING_RATE
config.SEED, config.LEARNING_RATE = 6, np.float32(0.5)
(thread := threading.Thread(target=lambda: print("returned", train_mnist.main()["status"]))).start()
thread.join()
print(os.environ["TF_NUM_INTRAOP_THREADS"], "thread")
"""


def test_loop_of_six_settings(tmp_path):
    """The second is misspelt, the fourth interrupted, the fifth diverges, a thread trains one."""
    program = small_program(tmp_path, NB_EPOCH=4, HIDDEN_LAYERS=1, OPTIMIZER="adam")
    stop = f"config.SEED == 4 and n == 1 and {command.CTRL_C}"
    command.add_callback(program, f"keras.callbacks.LambdaCallback(lambda n, logs: {stop})")
    process = run(program, command=[sys.executable, "-c", LOOP])
    told = re.findall(r"^(?:returned|raised) (.*)", process.stdout, re.M)
    where = f"ConfigError {program / 'config.py'}: LERNING_RATE"
    assert told.pop(1) == f"{where} is not used by train_mnist.py, which uses LEARNING_RATE"
    assert told == ["finished", "finished", "interrupted", "diverged", "finished"]
    (diverged,) = [line for line in own_lines(process) if "tensorflow" not in line]
    assert "rate of 1e+20" in diverged and process.stdout.endswith("\n1 thread\n")
    rows = read_csv(program / "results" / "runs.csv")
    assert [row["SEED"] for row in rows] == list("13456")
    assert [row["status"] for row in rows] == told
    assert [row["test_accuracy"] > "0" for row in rows] == [True, True, True, False, True]
    assert [row["epochs"] for row in rows] == ["4", "4", "1", rows[3]["epochs"], "4"]


OBJECTS = """
from pathlib import Path
from keras import losses, metrics
from keras.optimizers import SGD
DATA_PATH = Path(DATA_PATH)
OPTIMIZER = SGD(0.5, momentum=0.5)
LOSS = losses.CategoricalCrossentropy()
METRICS = ["accuracy", metrics.Recall(), metrics.categorical_accuracy]
class Unused: pass
"""


def test_objects_in_config(tmp_path):
    """Each run of a loop starts from a fresh optimizer; the record tells what the objects were."""
    program = small_program(tmp_path)
    with open(program / "config.py", "a") as file:
        file.write(OBJECTS)
    twice = "import train_mnist; assert train_mnist.main()['loss'] == train_mnist.main()['loss']"
    run(program, command=[sys.executable, "-c", twice])
    run(program)
    records = [record for _, record in read_runs(program)]
    assert len({(record["loss"], record["test_recall"]) for record in records}) == 1
    constants = records[0]["constants"]
    assert constants["OPTIMIZER"]["SGD"]["momentum"] == 0.5
    assert list(constants["LOSS"]) == ["CategoricalCrossentropy"]
    assert list(constants["METRICS"][1]) == ["Recall"]
    assert constants["METRICS"][2] == "categorical_accuracy"


def test_another_config_is_named(tmp_path):
    program = small_program(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.py").write_text("EPOCHS = 5\nPORT = 80\n")
    code = f"import sys; sys.path.append({str(program)!r}); import train_mnist; train_mnist.main()"
    stderr = run(other, command=[sys.executable, "-c", code], exits=1).stderr
    told = stderr.partition("ConfigError: ")[2].splitlines()
    assert all(line.startswith(f"{other / 'config.py'}: ") for line in told)
    assert told[0].endswith(": BATCH_SIZE is missing") and len(told) > len(command.SUPPLIED)
    assert told[-1].endswith("EPOCHS is not used by train_mnist.py, which uses NB_EPOCH")


WINDOW = """
import os, sys
sys.argv, __file__ = ["ipykernel_launcher.py", "-f", "kernel.json"], "train_mnist.py"
exec(open(__file__, encoding="utf-8").read())
print(os.environ["TF_NUM_INTRAOP_THREADS"], "threads, and no SystemExit")
"""


def test_arguments_are_checked_where_they_are_the_scripts(tmp_path):
    """In an editor's window they are not. The threads there are those that the user has set."""
    program = small_program(tmp_path)
    assert "edit config.py" in run(program, "-h").stdout
    assert "unrecognized arguments: --epochs" in run(program, "--epochs", exits=2).stderr
    window = {"command": [sys.executable, "-c", WINDOW], "TF_NUM_INTRAOP_THREADS": "2"}
    assert run(program, **window).stdout.endswith("\n2 threads, and no SystemExit\n")
