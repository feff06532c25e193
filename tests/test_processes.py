import os
import signal

from tests.processes import Script


def test_a_script_has_its_arguments_variables_and_output():
    script = Script(
        """
        import os, sys
        print(sys.argv[1:], os.environ["COLOUR"])
        print("warning", file=sys.stderr)
        """,
        "a",
        2,
        environment={"COLOUR": "red"},
    )
    out, err = script.communicate(60)
    assert (script.returncode, out, err) == (0, "['a', '2'] red\n", "warning\n")
    assert "COLOUR" not in os.environ


def test_an_error_a_status_and_a_signal_are_reported():
    failed = Script("1 / 0")
    assert "ZeroDivisionError" in failed.communicate(60)[1]
    assert failed.returncode == 1
    status = Script("raise SystemExit(3)")
    status.communicate(60)
    assert status.returncode == 3
    killed = Script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    killed.communicate(60)
    assert killed.returncode == -signal.SIGKILL


def test_tensorflow_is_loaded_and_computes_in_each_script():
    code = """
        import sys
        assert "tensorflow" in sys.modules
        import tensorflow as tf
        print(int(tf.reduce_sum(tf.range(5))))
    """
    scripts = [Script(code) for _ in range(2)]
    assert [script.communicate(60)[0] for script in scripts] == ["10\n", "10\n"]
