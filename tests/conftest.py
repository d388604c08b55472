import os
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
