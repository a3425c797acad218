"""What the examples share: training as one compiled loop, a number of steps on the command line, and plots."""

import argparse
import importlib.util
from pathlib import Path

import jax
import optax
from jax import lax

from dlfn.files import replacing, require_writable


def positive(text):
    """The type of an argument that counts something."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def fit(loss, params, optimizer, inputs):
    """Minimises ``loss(params, *batch)`` over the batches that the arrays of ``inputs`` have along their first axis.
    Returns the parameters, and the loss of every step."""

    def step(carry, batch):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def run(params, inputs):
        return lax.scan(step, (params, optimizer.init(params)), inputs)

    (params, _), losses = run(params, inputs)
    return params, losses


def require(parser, what, package, module=None):
    """That a package of the extra is missing is an error before the work."""
    if importlib.util.find_spec(module or package) is None:
        parser.error(f'{what} needs {package}: pip install -e ".[examples]"')


def with_plot(parser, argv, name, shows):
    """The arguments, the plot's file among them. That nothing can draw or write it is an error before the work."""
    parser.add_argument("--plot", type=Path, default=f"runs/{name}.png", metavar="FILE",
                        help=f"what {shows} are drawn to (default: %(default)s)")  # fmt: skip
    arguments = parser.parse_args(argv)
    require(parser, "the plot", "matplotlib")
    try:
        if arguments.plot == Path(parser.get_default("plot")):
            arguments.plot.parent.mkdir(exist_ok=True)
        elif not arguments.plot.parent.is_dir():
            parser.error(f"argument --plot: there is no folder {str(arguments.plot.parent)!r}")
        require_writable(arguments.plot)
    except OSError as error:
        parser.error(f"argument --plot: {error}")
    return arguments


def pyplot():
    import matplotlib

    matplotlib.use("Agg")  # to files, without a display
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(figure, path):
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:] or None)
    print(f"plot in {path}")
