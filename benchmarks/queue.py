"""`python benchmarks/queue.py ACTION` works through the long runs of `benchmarks/queue.yaml`; see long_runs.py.

Scripts in this folder have it first on their module path, so their `import queue`, which means the module of the
standard library, arrives here and is passed on.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    from long_runs import main

    sys.exit(main())

path = Path(sysconfig.get_path("stdlib")) / "queue.py"
spec = importlib.util.spec_from_file_location("queue", path)
assert spec is not None
assert spec.loader is not None
sys.modules["queue"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
