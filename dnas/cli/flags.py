"""What the commands' flags share: checks, errors, the compilation cache.

A command calls `define` and `main` when it is run, and neither when it is imported. Whatever a user
got wrong is said in one line on stderr that names the key, before anything is compiled, with exit
code 1 and without a traceback.
"""

import dataclasses
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, logging
from absl import flags as absl_flags

absl_flags.disclaim_key_flags()  # --help of a command shows these flags as its own
_FLAGS = absl_flags.FLAGS
DEFAULT = "digits"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
      config: the config's settings with those of the command line, as nested dictionaries.
      given: the dotted keys that the command line sets.
      workdir: the working directory; None writes nothing.
      parallel: ``'none'`` or ``'pmap'``.
      progress: whether to show progress.
    """

    config: dict[str, Any]
    given: frozenset[str]
    workdir: str | None
    parallel: str
    progress: bool


def define() -> None:
    """Defines the flags; call it where a command is run."""
    absl_flags.DEFINE_string(
        "config",
        DEFAULT,
        "Name of a config of the package, or path of a file; --config.KEY=VALUE changes it.",
    )
    absl_flags.DEFINE_string(
        "workdir", None, "Where files are written, and resumed from. Without it nothing is written."
    )
    absl_flags.DEFINE_enum(
        "parallel", "none", ["none", "pmap"], "Devices: one, or all local ones by jax.pmap."
    )
    absl_flags.DEFINE_bool("progress", True, "Show progress.")
    absl_flags.DEFINE_bool(
        "cache",
        True,
        "Keep compiled programs for the next run, in $JAX_COMPILATION_CACHE_DIR or the user's "
        "cache directory.",
    )


def main(
    argv: Sequence[str],
    prepare: Callable[[Settings], Any],
    run: Callable[[Settings, Any], None],
    usage: Callable[[], str],
) -> None:
    """Runs a command.

    Args:
      argv: name of the command and its arguments.
      prepare: checks the settings and makes of them what `run` needs, without compiling
        anything. ValueError, OSError and ImportError are taken as the user's and shown as one line.
      run: does the work with what `prepare` made.
      usage: what --help shows above the flags.
    """
    given: dict[str, str] = {}

    def parse(argv: Sequence[str]) -> list[str]:
        others, mine = _parse(argv, usage)
        given.update(mine)
        return others

    def guarded(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; settings are given as --config.key=value")
        if not _FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries are talkative at INFO
        # Outside of a loop there is nothing to save, so a signal ends the command at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _terminate)
        _show_warnings()
        settings = Settings(
            _config(_FLAGS.config, given),
            frozenset(given),
            _FLAGS.workdir,
            _FLAGS.parallel,
            _FLAGS.progress,
        )
        if _FLAGS.cache:
            _keep_compiled()
        try:
            _run(prepare, run, settings)
        except KeyboardInterrupt:  # the second one, while the first was heeded
            fail("interrupted", code=130)

    app.run(guarded, argv=list(argv), flags_parser=parse)


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the script with an error message."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def _config(source: str, given: dict[str, str]) -> dict[str, Any]:
    """The config with the values of the command line; ends the command where there is none."""
    from dnas.cli import config

    try:
        loaded = config.load(source)
    except Exception as error:  # of any kind: files are the user's code
        text = " ".join(str(error).split()) or type(error).__name__
        fail(text if text.startswith("--config") else f"--config={source}: {text}")
    try:
        return config.changed(loaded, given)
    except ValueError as error:
        fail(f"{error}. --help lists all keys.")


def _parse(argv: Sequence[str], usage: Callable[[], str]) -> tuple[list[str], dict[str, str]]:
    """Parses flags; wrong ones are named in a line."""
    from dnas.cli import config

    if {"--help", "-help", "-h", "-?"} & set(argv):
        module = _FLAGS.find_module_defining_flag("workdir")
        print(f"{usage()}\n{_FLAGS.module_help(module)}")
        sys.exit(0)
    try:
        others, given = config.split(argv)
        return _FLAGS(others), given
    except (absl_flags.Error, ValueError) as error:  # of a wrong type, or an unknown flag
        fail(str(error))


def _run(prepare: Callable, run: Callable, settings: Settings) -> None:
    from dnas import data
    from dnas.runtime import checkpoints, loop, workdir

    try:
        with data.bars(settings.progress):
            job = prepare(settings)
    except (ValueError, OSError, ImportError) as error:
        fail(str(error))
    try:
        with data.bars(settings.progress):
            run(settings, job)
    except loop.Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
    except (
        checkpoints.CheckpointError,
        loop.DivergedError,
        workdir.WorkdirError,
        OSError,  # a folder that cannot be written, a full disk
    ) as error:
        fail(str(error))


def _show_warnings() -> None:
    """Shows a warning that is for users as one line, and each of them once."""
    shown, otherwise = set(), warnings.showwarning

    def show(message, category, *where, **file):
        if category is not UserWarning:
            otherwise(message, category, *where, **file)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = show


def _terminate(number: int, _frame: Any) -> NoReturn:
    name = signal.Signals(number).name
    print(f"stopped by {name} between two jobs; nothing was in flight", file=sys.stderr, flush=True)
    sys.exit(0)


def _keep_compiled() -> None:
    """Points XLA at its persistent cache, unless the user did."""
    import jax

    if not jax.config.values.get("jax_compilation_cache_dir"):
        from dnas.runtime import caches

        jax.config.update("jax_compilation_cache_dir", str(caches.folder("xla")))
