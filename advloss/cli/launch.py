"""Runs a command: flags, then its work; what the user can mend becomes one line.

    launch.run(advloss.cli.train, ["advloss", "train"], ["--workdir=runs/lmcl", ...])

A command is a module with `FLAGS`, the names of its flags, and `main(given)`. It may
say `SAVED_CONFIG`, see `flags.parse`, and `RESUMES`: a signal asks it to save and end.
"""

import contextlib
import functools
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from advloss.cli import flags, terminal
from advloss.errors import DivergedError, InputError, Stopped, causes, line, one_line
from advloss.runtime import signals

# What XLA, its collectives and orbax's barriers say where another process is gone.
_GONE = re.compile(
    "^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED): |Gloo|remote process|"
    "Connection (reset|closed|refused)|Barrier timed out"
)
# What XLA and its backends say where there is no memory.
# How long process 0 stays for the others, when it ends with an error.
_GRACE_SECONDS = 3
_MEMORY = re.compile("RESOURCE_EXHAUSTED|out of memory|bad_alloc", re.IGNORECASE)


def run(command: ModuleType, program: Sequence[str], arguments: Sequence[str]) -> None:
    """Runs a command with what the command line says; an error ends the process."""
    logging.set_verbosity(logging.WARNING)  # JAX tells of absent backends.
    warnings.showwarning = _show_warning
    threading.excepthook = sys.unraisablehook = _show_background_error
    _keep_compiled_programs()
    if {"--help", "-h"} & set(arguments):
        texts = [(command.__doc__ or "").strip()]  # Under -OO there is none.
        if command.FLAGS:
            texts.append(flags.usage(command.FLAGS, program))
        print("\n\n".join(filter(None, texts)))
        return
    given = None
    try:
        given = flags.parse(
            command.FLAGS,
            program,
            arguments,
            saved_config=getattr(command, "SAVED_CONFIG", False),
        )
        if getattr(command, "RESUMES", False):
            signals.listen()
        command.main(given)
    except Stopped as stop:
        terminal.say(f"\n{stop}: the same command continues")
    except KeyboardInterrupt:
        terminal.say("\ninterrupted: the same command continues")
        sys.exit(130)
    except Exception as error:
        _fail(explained(error, given and given.config))


def explained(error: Exception, config: ConfigDict | None = None) -> str:
    """An error that the user can mend, as a line; any other is raised again."""
    if isinstance(error, InputError | DivergedError):
        return str(error)
    if _is_alone(error):
        return (
            "another process of this run has ended or can't be reached, see "
            f"what it said: the same commands continue ({line(error)})"
        )
    if isinstance(error, OSError):
        return f"a file can't be read or written: {error}"
    if _is_memory(error):
        return f"out of memory: lower {_large(config)} ({line(error)})"
    raise error


def _is_memory(error: Exception) -> bool:
    said = isinstance(error, RuntimeError) and _MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(said)


def _large(config: ConfigDict | None) -> str:
    """The keys, with their values, that decide how much memory is used."""
    if config is None:
        return "the number of runs"
    return (
        f"config.train.batch_size={config.train.batch_size} or "
        f"config.evaluate.batch_size={config.evaluate.batch_size}; where one image is "
        f"too much, config.data.num_classes={config.data.num_classes}, or use a "
        f"smaller network than config.model.name={config.model.name!r}"
    )


def _is_alone(error: Exception) -> bool:
    """Whether it came of another process that is no longer there."""
    return (
        isinstance(error, OSError | jax.errors.JaxRuntimeError | ValueError)
        and jax.distributed.is_initialized()
        and any(
            isinstance(cause, TimeoutError) or _GONE.search(str(cause))
            for cause in causes(error)
        )
    )


def _keep_compiled_programs() -> None:
    """Compiled programs are kept for the next run, in the user's cache."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        with contextlib.suppress(RuntimeError):  # There is no home.
            cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "advloss"))


def _show_warning(message: Warning | str, *_) -> None:
    terminal.say(f"warning: {one_line(' '.join(str(message).split()))}")


_warn_once = functools.cache(_show_warning)


def _show_background_error(failure: Any) -> None:
    """Of what writes in the background: what it is for fails too, and says so."""
    text = line(failure.exc_value)
    if text != "Event loop is closed":  # orbax's, of each array that failed.
        _warn_once(f"{failure.exc_type.__name__}: {text}")


def _fail(message: str) -> None:
    if jax.distributed.is_initialized():
        # At once, and the others learn of it: a regular end would wait for them.
        terminal.say(f"error: {one_line(message)}")
        sys.stdout.flush()
        if jax.process_index() == 0:
            # JAX aborts the others when it goes: they may be about to say the same.
            time.sleep(_GRACE_SECONDS)
        os._exit(2)
    terminal.fail(message)
