"""``dlfn check module:function``, in process, in a folder with a module of somebody's."""

import json

import pytest

from dlfn.cli import main

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODULE = """
import jax, jax.numpy as jnp

@jax.custom_vjp
def cube(x):
    return x**3

cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3.003 * x * x * dy,))

class Losses:
    @staticmethod
    def sine(x, scale=2.0):
        return jnp.sin(x) * scale

here = (jnp.arange(1.0, 4.0),)
three = (1.0, 2.0, 3.0)
number = 3

def example():
    return {"x": jnp.ones(2), "scale": jnp.array(3.0)}

def unreadable():
    raise OSError("no weights at weights.npz")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "somebodys.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import a_module_that_nobody_has")
    (tmp_path / "broken.py").write_text("x = 1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_wrong_function_is_exit_1_with_its_table_and_json(folder, capsys):
    assert main(["check", "somebodys:cube", "--args", "somebodys:here", "--json", "found.json"]) == 1
    printed = capsys.readouterr().out
    assert printed.split("\n")[2].endswith("FAIL")
    assert "NOT ALL GRADIENTS AGREE" in printed
    assert "FAIL  cube: gradient in x [2]" in printed  # and the audit says whose rule it is
    found = json.loads((folder / "found.json").read_text())
    assert found["ok"] is False
    assert 0.9e-3 < found["rows"][0]["hand"] < 1.1e-3
    assert found["audit"]["calls"][0]["rule"]["name"] == "cube"


def test_a_right_function_is_exit_0_and_a_dict_has_arguments_by_name(folder, capsys):
    assert main(["check", "somebodys:Losses.sine", "--args", "somebodys:example"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.split("\n")[2:4]] == ["scale", "x"]


MISTAKES = {
    "somebodys:cubed --args somebodys:here": "check: 'somebodys' has no 'cubed'; did you mean 'cube'?",
    "somebodys:Losses.sin --args somebodys:here": "check: 'somebodys' has no 'sin'; did you mean 'sine'?",
    "sombodys:cube --args somebodys:here": "check: there is no module 'sombodys'; did you mean 'somebodys'?",
    "a.b.c:cube --args somebodys:here": "check: there is no module 'a'; it is looked for in",
    "somebodys.py:cube --args somebodys:here": "check: 'somebodys.py' must be the name of a module, without .py",
    "needs_more:f --args somebodys:here": "importing 'needs_more' raised ModuleNotFoundError: No module named 'a_mod",
    "broken:f --args somebodys:here": "check: importing 'broken' raised ZeroDivisionError: division by zero (",
    "somebodys: --args somebodys:here": "check: 'somebodys:' must be module:function",
    "somebodys:number --args somebodys:here": "check: 'somebodys:number' is int, and must be a function",
    "somebodys:cube": "check: at which arguments is 'somebodys:cube' to be checked? Pass --args module:make_args",
    "somebodys:cube --args here": "check: 'here' must be module:function",
    "somebodys:cube --args somebodys:number": "'somebodys:number' gives int, and must give a tuple or a dict",
    "somebodys:cube --args somebodys:unreadable": "somebodys:unreadable raised OSError: no weights at weights.npz (",
    "somebodys:cube --args somebodys:three": "compare: TypeError: ",
    "somebodys:cube gelu --args somebodys:here": "check: 'somebodys:cube' is checked by itself, without 'gelu'",
    "gelu --args somebodys:here": "argument --args: is for a function of yours, module:function",
}


@pytest.mark.parametrize("argv", MISTAKES)
def test_each_mistake_is_one_line_and_exit_2(argv, folder, capsys):
    assert main(["check", *argv.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dlfn: error: ")
    assert MISTAKES[argv] in captured.err
    assert captured.err.count("\n") == 1
