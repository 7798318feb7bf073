"""The program in a real kernel: run, imported, looped over, edited, reloaded, interrupted."""

import command
import pytest
from command import posix, read_csv, read_run, read_runs
from jupyter_client.manager import start_new_kernel


@pytest.fixture
def cell(program):
    """Start a kernel in the program's folder; return a function that runs a cell in it."""
    manager, client = start_new_kernel(cwd=str(program), env=command.ENVIRONMENT)

    def run_cell(code, interrupt_at=None):
        """Run a cell, interrupt it at a text that it prints; return what it prints or raises."""
        shown = []

        def show(message):
            content = message["content"]
            shown.append(
                content.get("text", "") + content.get("evalue", "") + content.get("ename", "")
            )
            if interrupt_at and interrupt_at in content.get("text", ""):
                manager.interrupt_kernel()

        client.execute_interactive(code, output_hook=show, timeout=120)
        return "".join(shown)

    yield run_cell
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def seeds(program):
    """Return the SEED of each run."""
    return [record["constants"]["SEED"] for _, record in read_runs(program / "results")]


def test_run_takes_up_an_edit(cell, program):
    for seed in (1, 2):
        command.edit_config(program, SEED=seed)
        assert "\nTest accuracy: 0." in cell("%run train_mnist.py")
    assert seeds(program) == [1, 2]


def test_run_takes_up_an_edit_after_cells_have_imported_and_changed_config(cell, program):
    cell("import config\nconfig.SEED = 3")
    command.edit_config(program, SEED=4)
    cell("%run train_mnist.py")
    assert seeds(program) == [4]


def test_a_loop_over_an_imported_main(cell, program):
    cell("import config, train_mnist")
    cell("for seed in (5, 6):\n    config.SEED = seed\n    train_mnist.main()")
    assert seeds(program) == [5, 6]


def test_an_imported_main_and_run_share_one_config(cell, program):
    cell("import config, train_mnist")
    command.edit_config(program, SEED=7)
    cell("%run train_mnist.py")
    cell("train_mnist.main()")
    cell("config.SEED = 8\ntrain_mnist.main()")
    assert seeds(program) == [7, 7, 8]


def test_an_edit_of_the_imported_script_is_not_what_is_recorded(cell, program):
    started = command.sha256(program / "train_mnist.py")
    cell("import train_mnist")
    command.edit_script(program, "    # normalize\n", "    # scale\n")
    cell("train_mnist.main()")
    _, record = read_run(program / "results")
    assert record["script_sha256"] == started


def test_a_fault_in_config_is_told(cell, program):
    command.edit_config(program, NB_EPOCH=0)
    assert "NB_EPOCH = 0: it must be" in cell("%run train_mnist.py")
    assert "ConfigError" in cell("import train_mnist\ntrain_mnist.main()")


@posix
def test_an_interrupt_ends_the_loop_and_keeps_the_finished_epochs(cell, program):
    command.edit_config(program, NB_EPOCH=3)
    command.add_to_config(program, command.PAUSE)
    cell("import config, train_mnist")
    loop = "for seed in (1, 2):\n    config.SEED = seed\n    train_mnist.main()"
    assert cell(loop, interrupt_at="pausing").endswith("KeyboardInterrupt")
    (row,) = read_csv(program / "results" / "runs.csv")
    assert (row["status"], row["epochs"]) == ("interrupted", "2")


def test_the_notebooks_backend_stays(cell):
    cell("%run train_mnist.py")
    assert "module://" in cell("import os; print(os.environ['MPLBACKEND'])")
