"""The program in a real kernel: run, imported, looped over, edited, reloaded, interrupted."""

import re

import command
from command import posix, small_program
from jupyter_client.manager import start_new_kernel

MAIN = "print(config.SEED, train_mnist.main()['status'])"


@posix
def test_in_a_notebook(tmp_path):
    program = small_program(tmp_path)
    manager, client = start_new_kernel(cwd=str(program), env=command.ENVIRONMENT)

    def cell(code, interrupt_at=None):
        """Run a cell, interrupt it at a text that it prints; return what it prints or raises."""
        shown = []

        def show(message):
            content = message["content"]
            shown.append(content.get("text", "") + content.get("ename", ""))
            if interrupt_at and interrupt_at in shown[-1]:
                manager.interrupt_kernel()

        client.execute_interactive(code, output_hook=show, timeout=120)
        return "".join(shown)

    try:
        for seed in (1, 2):
            command.edit_config(program, SEED=seed)
            assert re.search(r"\nTest accuracy: 0\.\d{4}\n$", cell("%run train_mnist.py"))
        assert "2 finished" in cell("import config, train_mnist; " + MAIN)
        assert cell("for config.SEED in (3, 4): " + MAIN).count(" finished") == 2
        command.edit_config(program, HIDEN_LAYERS=2)
        assert "SystemExit" in cell("%run train_mnist.py")
        assert "ConfigError" in cell("train_mnist.main()")
        assert "5 finished" in cell("del config.HIDEN_LAYERS; config.SEED = 5; " + MAIN)
        text = (program / "config.py").read_text()
        (program / "config.py").write_text(text + "SEED = (\n")
        assert "SyntaxError" in cell("%run train_mnist.py")
        (program / "config.py").write_text(text.replace("HIDEN_LAYERS = 2\n", ""))
        assert "6 finished" in cell("config.SEED = 6; " + MAIN)
        cell("config.HIDEN_LAYERS = 2\n%run train_mnist.py")  # as the file is, with seed 2
        loaded = command.sha256(program / "train_mnist.py")
        command.edit_script(program, "    # normalize\n", "")  # an edit of what is loaded already
        assert "7 finished" in cell("for config.SEED in [7]: " + MAIN)
        command.edit_config(program, SEED=8, NB_EPOCH=100000, VERBOSE=2)
        cell("import importlib; importlib.reload(config)")
        stopped = cell(MAIN, "Epoch 3/100000\n")
        assert "Interrupted: back to the end of epoch 2\n" in stopped
        assert stopped.endswith("8 interrupted\n")
        assert cell("print('z'); import time; time.sleep(60)", "z\n").endswith("KeyboardInterrupt")
        assert cell("import os; print(os.environ['MPLBACKEND'])").startswith("module://")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    rows = command.read_csv(program / "results" / "runs.csv")
    assert {row["script_sha256"] for row in rows} == {loaded}
    assert [row["SEED"] for row in rows] == list("1223456278")
    assert [row["status"] for row in rows] == ["finished"] * 9 + ["interrupted"]
