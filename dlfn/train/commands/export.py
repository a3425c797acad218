"""``dlfn export``."""

import argparse

from dlfn.train.exporting import PROGRAM, export

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """write a run's model for use without dlfn

params.safetensors has the parameters. model.jaxexport is the model in inference, with its parameters, for a batch of
any size on CPUs, NVIDIA's GPUs and TPUs. With jax and flatbuffers, this is all that it takes to call it:

    from jax import export
    model = export.deserialize(bytearray(open("model.jaxexport", "rb").read()))
    outputs = model.call(inputs)"""
EXAMPLE = "dlfn export runs/digits_mlp -o digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")
    parser.add_argument("--onnx", action="store_true", help="write model.onnx as well, for one size of a batch")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="where to write (default: RUN/export)")


def run(arguments: argparse.Namespace) -> int:
    folder = export(arguments.folder, arguments.output, onnx=arguments.onnx)
    print(f"wrote {folder / PROGRAM} ({(folder / PROGRAM).stat().st_size:,} bytes) and the parameters beside it")
    return 0
