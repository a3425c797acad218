"""Data for training: sources of batches, and the files that they are made from."""

from dlfn.train.data.array_files import arrays_file
from dlfn.train.data.by_name import DATA
from dlfn.train.data.images import digit_images, digits, idx
from dlfn.train.data.in_memory import Arrays, arrays, split
from dlfn.train.data.source import Dataset, Source, batch_indices
from dlfn.train.data.streams import Stream, stream
from dlfn.train.data.tables import csv, diabetes
from dlfn.train.data.texts import text, text_codec
from dlfn.train.data.windows import MappedWindows, Windows

__all__ = [
    "DATA", "Arrays", "Dataset", "MappedWindows", "Source", "Stream", "Windows", "arrays", "arrays_file",
    "batch_indices", "csv", "diabetes", "digit_images", "digits", "idx", "split", "stream", "text", "text_codec",
]  # fmt: skip
