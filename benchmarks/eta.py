"""How well the remaining time that progress shows agrees with the time that was left.

    python benchmarks/eta.py

For one `find` and one `simulate`: what was predicted when about 10 and 50 % of a step were done, and what was left of
the step and of the whole command, in processor time, which other work on the machine does not change.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryovox.cli.interface.screen import remaining
from cryovox.core.progress import ProgressCallback
from cryovox.models.card import EMBEDDED
from cryovox.simulate.phantom import PhantomConfig
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.find import find
from cryovox.workflows.simulation.dataset import simulate_dataset
from cryovox.workflows.simulation.phantoms import write_phantoms

AT = (0.1, 0.5)


def measure(label: str, work: Callable[[ProgressCallback], object]) -> None:
    """Print a row for each step that lasts at least a second."""
    events: dict[str, list[tuple[float, float]]] = {}

    def on_progress(name: str, fraction: float, note: str = "") -> None:
        events.setdefault(name, []).append((time.process_time(), fraction))

    start = time.process_time()
    work(on_progress)
    end = time.process_time()
    print(f"{label}: {end - start:.1f} s in all")
    for name, seen in events.items():
        began, at = [event for event in seen if event[1] == 0 or event is seen[0]][-1]
        stop = seen[-1][0]
        for share in AT if stop - began > 1 else ():
            now, fraction = next(event for event in seen if event[1] >= share)
            predicted = remaining(now - began, fraction - at, fraction)
            print(
                f"    {name} at {100 * fraction:3.0f} %: {predicted:6.1f} s predicted, {stop - now:6.1f} s left of"
                f" the step (ratio {predicted / max(stop - now, 1e-3):.2f}), {end - now:6.1f} s of the command"
            )


def main() -> None:
    """Measure both commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = PhantomConfig(shape=(64, 160, 160), count=10)
        data = write_phantoms(folder / "phantoms", config, ("test",), 0)
        tomograms = sorted((data / "tomograms").glob("*.mrc"))
        measure("find", lambda on: find(tomograms, EMBEDDED, folder / "found", device="cpu", on_progress=on))
        for preset in ("cell", "czii-phantom"):
            measure(
                f"simulate --preset {preset}",
                lambda on, preset=preset: simulate_dataset(
                    folder / preset, PRESETS[preset], device="cpu", on_progress=on
                ),
            )


if __name__ == "__main__":
    main()
