"""What the scripts' command lines share: flags, checks, errors, the compilation cache.

A script calls `define` and `main` when it is run, and neither when it is imported. Whatever a user
got wrong is said in one line on stderr that names the key, before anything is compiled, with exit
code 1 and without a traceback.
"""

import dataclasses
import pathlib
import re
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from absl import app, logging
from absl import flags as absl_flags
from ml_collections import ConfigDict, config_flags

absl_flags.disclaim_key_flags()  # --help of a script shows these flags as its own
_FLAGS = absl_flags.FLAGS
_DEFAULT = pathlib.Path(__file__).parents[2] / "experiments" / "configs" / "digits.py"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
      config: the config file's settings with the overrides of the command line.
      workdir: the working directory; None writes nothing.
      parallel: ``'none'`` or ``'pmap'``.
      progress: whether to show progress.
    """

    config: ConfigDict
    workdir: str | None
    parallel: str
    progress: bool


def define() -> None:
    """Defines the flags; call it where a script is run."""
    config_flags.DEFINE_config_file(
        "config", None, "The config file, digits by default; --config.key=value overrides it."
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


def main(prepare: Callable[[Settings], Any], run: Callable[[Settings, Any], None]) -> None:
    """Runs a script.

    Args:
      prepare: checks the settings and makes of them what `run` needs, without compiling
        anything. ValueError, OSError and ImportError are taken as the user's and shown as one line.
      run: does the work with what `prepare` made.
    """

    def guarded(argv):
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; settings are given as --config.key=value")
        if not _FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries are talkative at INFO
        # Outside of a loop there is nothing to save, so a signal ends the script at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _terminate)
        _show_warnings()
        settings = Settings(_FLAGS.config, _FLAGS.workdir, _FLAGS.parallel, _FLAGS.progress)
        if _FLAGS.cache:
            _keep_compiled()
        try:
            _run(prepare, run, settings)
        except KeyboardInterrupt:  # the second one, while the first was heeded
            fail("interrupted", code=130)

    app.run(guarded, flags_parser=_parse)


def given() -> frozenset[str]:
    """The dotted keys of the config that the command line sets."""
    return frozenset(config_flags.get_override_values(_FLAGS["config"]))


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the script with an error message."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def reject_unknown(section: str, settings: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises ValueError for keys that nothing reads.

    Args:
      section: the dotted name of the section, for the message.
      settings: the section.
      known: the keys it may have.
    """
    for key in settings:
        if key not in known:
            raise ValueError(f"{section}.{key} is unknown; the keys are {', '.join(known)}")


def choose(key: str, value: Any, choices: Mapping[str, Any] | tuple[str, ...]) -> Any:
    """What a name stands for; ValueError with the key and the choices where it is none of them."""
    if not isinstance(value, str) or value not in choices:
        from dnas import checks  # late: --help needs no jax

        hint = checks.did_you_mean(value, choices) if isinstance(value, str) else ""
        expected = ", ".join(choices)
        raise ValueError(f"{key}={checks.shown(value)}: expected one of {expected}{hint}")
    return choices[value] if isinstance(choices, Mapping) else value


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; wrong ones are named in a line."""
    if {"--help", "-help", "-h", "-?"} & set(argv):
        module = _FLAGS.find_module_defining_flag("workdir")
        print(f"{sys.modules['__main__'].__doc__}\n{_FLAGS.module_help(module)}")
        sys.exit(0)
    if not any(re.match(r"--?config(=|$)", arg) for arg in argv):
        # Not as the flag's default: that would be loaded, with all overrides, beside another.
        argv = [argv[0], f"--config={_DEFAULT}", *argv[1:]]
    try:
        return _FLAGS(argv)
    except absl_flags.Error as error:  # of a wrong type, or an unknown flag
        fail(str(error))
    except AttributeError as error:  # a key that the config does not have
        name = re.match(r"\W*(\w+)", str(error))
        given = [arg.split("=")[0].lstrip("-") for arg in argv if arg.startswith("--config.")]
        keys = [arg for arg in given if name and name[1] in arg.split(".")]
        hint = re.search(r"Did you mean .([\w.]+).", str(error))
        hint = f"; did you mean {hint[1]!r}?" if hint else "."
        fail(f"{', '.join(keys) or error} is unknown{hint} --help lists all keys.")
    except (OSError, SyntaxError, TypeError, ValueError, KeyError) as error:
        config = next((arg for arg in argv if re.match(r"--?config=", arg)), "")
        fail(" ".join(f"{config}: {error}".split()))


def _run(prepare: Callable, run: Callable, settings: Settings) -> None:
    from dnas import data  # late: --help needs no jax
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

    if not jax.config.jax_compilation_cache_dir:
        from dnas.runtime import caches

        jax.config.update("jax_compilation_cache_dir", str(caches.folder("xla")))
