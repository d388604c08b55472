import subprocess
import sys

import pytest

import cryovox


@pytest.mark.parametrize("name", sorted(set(cryovox.__all__) - {"__version__"}))
def test_every_public_name_resolves_and_is_documented(name):
    found = getattr(cryovox, name)
    assert found.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cryovox.nothing  # noqa: B018


def test_reading_and_picking_load_no_torch():
    used = "cryovox.read_volume; cryovox.pick; cryovox.read_particles"
    code = f"import sys, cryovox; {used}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
