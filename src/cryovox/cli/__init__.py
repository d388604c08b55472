"""Find macromolecules in cryo-electron tomograms.

    cryovox demo       run the whole workflow on a small example, in a few minutes
    cryovox doctor     inspect tomograms; start here
    cryovox train      train a network: `cryovox train` lists the strategies (supervised, semi-supervised,
                       domain adaptation, domain generalization)
    cryovox find       segment, pick and report in one command
    cryovox segment    segment tomograms or subtomograms
    cryovox pick       extract particle coordinates from score or label maps
    cryovox match      search for a known structure by template matching, with poses
    cryovox suggest    suggest regions to annotate next
    cryovox extract    extract subtomograms at particles
    cryovox evaluate   compare particles or labels with the ground truth
    cryovox simulate   simulate labeled tomograms or subtomograms for training
    cryovox fetch      download atomic models and datasets
    cryovox convert    convert volumes and particle lists; correct headers and gray values
    cryovox particles  filter particle lists, count particles, merge lists of several programs
    cryovox denoise    denoise tomograms
    cryovox explain    explain where an output came from
    cryovox rerun      run the commands of a manifest again, and compare the outputs
    cryovox models     list networks and which one to choose, or describe a model file
    cryovox report     write one page over many tomograms, and choose subsets of them
    cryovox view       show a result in napari, ChimeraX or 3dmod
    cryovox benchmark  compare networks on benchmark suites

`cryovox COMMAND --help` shows the main options, --help-all all options. Exit code 0: success; 1: some
inputs failed or the disk is full; 2: wrong request, nothing was started.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from cryovox.core.errors import DataWarning, RenamedWarning, RequestError, RunError, run_error
from cryovox.core.invocation import forget, record
from cryovox.core.registry import Registry

COMMANDS = Registry(
    "command",
    "cryovox.commands",
    {
        "demo": "cryovox.cli.demo:demo",
        "doctor": "cryovox.cli.files:doctor",
        "train supervised": "cryovox.cli.train:supervised",
        "simulate": "cryovox.cli.simulate:simulate",
        "fetch structure": "cryovox.cli.fetch:structure",
        "fetch dataset": "cryovox.cli.fetch:dataset",
        "find": "cryovox.cli.tomograms:find",
        "segment": "cryovox.cli.tomograms:segment",
        "pick": "cryovox.cli.tomograms:pick",
        "match": "cryovox.cli.match:match",
        "suggest": "cryovox.cli.suggest:suggest",
        "extract": "cryovox.cli.files:extract",
        "evaluate particles": "cryovox.cli.evaluate:particles",
        "evaluate labels": "cryovox.cli.evaluate:labels",
        "benchmark": "cryovox.cli.benchmark:benchmark",
        "convert": "cryovox.cli.files:convert",
        "particles filter": "cryovox.cli.particles:filter",
        "particles stats": "cryovox.cli.particles:stats",
        "particles merge": "cryovox.cli.particles:merge",
        "merge": "cryovox.cli.particles:merge",
        "denoise": "cryovox.cli.denoise:denoise",
        "explain": "cryovox.cli.provenance:explain",
        "rerun": "cryovox.cli.provenance:rerun",
        "models": "cryovox.cli.models:models",
        "report": "cryovox.cli.report:report",
        "view": "cryovox.cli.view:view",
    },
)


RESUMABLE = (
    "train", "find", "segment", "match", "denoise", "simulate", "suggest", "fetch", "benchmark", "demo",
    "rerun",
)  # fmt: skip
"""Commands that skip what an interrupted run has finished."""


def run() -> None:
    """Entry point of the command line."""
    from cryovox.cli.interface.collector import collect_less
    from cryovox.cli.interface.streams import make_safe
    from cryovox.core.interrupt import end_on_sigterm

    collect_less()
    make_safe()
    end_on_sigterm()
    sys.exit(main(sys.argv[1:]))


def main(args: list[str]) -> int:
    """Run one command; gives the exit code. Only the module of that command is imported."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    if args[0] == "--version":
        from cryovox import __version__

        print(f"cryovox {__version__}")
        return 0
    record(args)
    try:
        code = _command(args)
        sys.stdout.flush()
        return code
    except RunError as error:
        return _complain(error, 1)
    except RequestError as error:
        return _complain(error, 2)
    except KeyboardInterrupt as stop:
        return _stopped(args[0], stop)
    except BrokenPipeError:  # the reader has closed the pipe, as in `cryovox ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _trouble(error)
    finally:
        forget()


def _command(args: list[str]) -> int:
    name, rest = _named(args)
    from cryovox.cli.interface.parse import call

    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        warnings.simplefilter("always", RenamedWarning)
        warnings.showwarning = _warner(warnings.showwarning)
        return int(call(command_of(name), rest, f"cryovox {name}") or 0)


def _warner(other: Any) -> Any:
    """Show each warning about data or names once, as a plain line; other warnings as Python does."""
    shown: set[str] = set()

    def show(message: Any, category: type[Warning], *rest: Any) -> None:
        if not issubclass(category, DataWarning | RenamedWarning):
            other(message, category, *rest)
        elif str(message) not in shown:
            shown.add(str(message))
            kind = "note" if issubclass(category, RenamedWarning) else "warning"
            print(f"{kind}: {message}", file=sys.stderr)

    return show


def command_of(name: str) -> Any:
    """The function of a command; strategies of other packages are trained by their names."""
    if name in COMMANDS or not name.startswith("train "):
        return COMMANDS[name]
    from cryovox.cli.train import by_strategy

    return by_strategy(name.removeprefix("train "))


def _commands() -> list[str]:
    """Names of all commands; every strategy is one."""
    from cryovox.training.strategies import STRATEGIES

    return sorted({*COMMANDS, *(f"train {name}" for name in STRATEGIES)})


def _named(args: list[str]) -> tuple[str, list[str]]:
    """The command, which may be of two words, and what follows it."""
    two = " ".join(args[:2])
    if two in COMMANDS:
        return two, args[2:]
    families = [name for name in _commands() if name.startswith(f"{args[0]} ")]
    if not families:
        return args[0], args[1:]
    if len(args) == 1 or args[1] in ("-h", "--help"):
        print(_family(args[0], families))
        raise SystemExit(0 if len(args) > 1 else 2)
    return two, args[2:]


def _stopped(command: str, stop: KeyboardInterrupt) -> int:
    message = getattr(stop, "message", "") or "finished outputs are kept"
    resumes = f"{message}; the same command continues from there"
    print(f"\nstopped: {resumes if command in RESUMABLE else 'no output was changed'}", file=sys.stderr)
    return int(getattr(stop, "code", 130))


def _family(family: str, names: list[str]) -> str:
    """List the commands of a family; strategies are grouped by the data that they need."""
    if family != "train":
        return "\n".join(f"    cryovox {name} --help" for name in names)
    from cryovox.cli.strategies import listing

    return listing([name.removeprefix("train ") for name in names])


def _complain(error: RequestError, code: int) -> int:
    print(f"cryovox: {error.where}: {error.message}", file=sys.stderr)
    print(f"    what to do: {error.remedy}", file=sys.stderr)
    return code


def _trouble(error: OSError) -> int:
    """Report an error of the operating system: a full or lost disk gives exit code 1, others 2."""
    if (failed := run_error(error)) is not None:
        return _complain(failed, 1)
    where = error.filename or "a file"
    return _complain(
        RequestError(where, error.strerror or str(error), "check the path and its permissions"), 2
    )
