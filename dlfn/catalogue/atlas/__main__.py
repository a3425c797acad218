"""``python -m dlfn.catalogue.atlas FOLDER``"""

import argparse
from pathlib import Path

from dlfn.catalogue.atlas.pages import write

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m dlfn.catalogue.atlas", description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
