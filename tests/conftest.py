import os
import re
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of third-party test data; CI demands that it is there."""
    folder = Path(os.environ.get("CRYOVOX_TEST_DATA", DEFAULT))
    if not folder.is_dir():
        if os.environ.get("CRYOVOX_REQUIRE_SHARED") == "1":
            pytest.fail(f"no test data at {folder}")
        pytest.skip(f"no test data at {folder}")  # they are no part of the repository
    return folder


class Steps(list):
    """Records (step, steps in all, fraction) of a training; raises an error at a step if asked to."""

    def __init__(self, stop_at=None, error=KeyboardInterrupt):
        super().__init__()
        self.stop_at, self.error = stop_at, error

    def __call__(self, name, fraction, note=""):
        if match := re.match(r"step (\d+) of at most (\d+)", note):
            self.append((int(match[1]), int(match[2]), fraction))
            if self.stop_at in (self[-1][0], fraction):
                raise self.error

    @property
    def numbers(self):
        return [step for step, _, _ in self]


@pytest.fixture(scope="session")
def recorded_steps():
    return Steps
