"""The command line as ``python -m cryovox``."""

from cryovox.cli import run

if __name__ == "__main__":
    run()
