"""The program in a real kernel: run, edited, imported, reloaded, interrupted."""

import command
from command import posix, small_program
from jupyter_client.manager import start_new_kernel


@posix
def test_in_a_notebook(tmp_path):
    program = small_program(tmp_path)
    manager, client = start_new_kernel(cwd=str(program), env=command.ENVIRONMENT)

    def cell(code, interrupt_at=None):
        """Run a cell, interrupt it at a text that it prints; return what it prints or raises."""
        shown = []

        def show(message):
            shown.append(message["content"].get("text", ""))
            if interrupt_at and interrupt_at in shown[-1]:
                manager.interrupt_kernel()

        reply = client.execute_interactive(code, output_hook=show, timeout=120)["content"]
        return "".join(shown) + reply.get("ename", "")

    try:
        for seed in (1, 2):
            command.edit_config(program, SEED=seed)
            assert "\nTest accuracy: 0." in cell("%run train_mnist.py")
        assert "\nTest accuracy: 0." in cell("import config, train_mnist; train_mnist.main()")
        command.edit_config(program, SEED=3, NB_EPOCH=100000, VERBOSE=2)
        cell("import importlib; importlib.reload(config)")
        stopped = cell("print('code', train_mnist.main())", "Epoch 3/100000\n")
        assert "\nTest accuracy: 0." in stopped and stopped.endswith("code 130\n")
        assert cell("print('z'); import time; time.sleep(60)", "z\n").endswith("KeyboardInterrupt")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    rows = command.read_csv(program / "results" / "runs.csv")
    assert [row["SEED"] + row["status"][:3] for row in rows] == ["1fin", "2fin", "2fin", "3int"]
    command.check_pictures(command.run_folders(program)[3])
