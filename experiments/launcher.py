"""What launchers share: flags, devices, and errors as one line."""

import argparse
import functools
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from advloss import config as configs
from advloss import parallel, stopping
from advloss.errors import DivergedError, InputError, Stopped, causes, line

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_DEVICES = flags.DEFINE_integer(
    "devices",
    None,
    "How many devices of this machine share each batch: by default all GPUs or TPUs; "
    "on a CPU, virtual devices, one a core, as far as they divide the batches.",
    lower_bound=1,
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes, as SLURM, Open MPI, Kubernetes or a TPU pod started "
    "them: each batch is shared by the devices of all.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where no such cluster tells it."
)
_COUNT = flags.DEFINE_integer(
    "process_count", None, "How many processes, with --coordinator.", lower_bound=1
)
_INDEX = flags.DEFINE_integer(
    "process_index", None, "Which of them this is, from 0.", lower_bound=0
)


def define_config(default: str | None = None) -> flags.FlagHolder:
    """The flag --config, whose keys can be set as --config.KEY=VALUE."""
    return config_flags.DEFINE_config_file(
        "config", default, "Config file, with an argument after a colon."
    )


def resolved(config: flags.FlagHolder) -> ConfigDict:
    """The flag's config, checked. Raises InputError where it is missing or wrong."""
    return configs.resolve(loaded(config))


def loaded(config: flags.FlagHolder) -> ConfigDict:
    """The flag's config as it is. Raises InputError where it can't be read."""
    try:
        value = config.value
        if value is not None:
            value.keys  # noqa: B018  A file that could not be read says so only now.
    except Exception as error:  # A config file is code, and may be read only now.
        raise InputError(_flag_message(error)) from error
    if value is None:
        raise InputError("--config is missing: name a file such as configs/default.py")
    return value


def devices(*batch_sizes: int) -> list[jax.Device]:
    """The devices of --devices, of all hosts. To be called before JAX is first used.

    A CPU is split into virtual devices, so that every core has its own work.

    Raises:
        InputError: there are fewer than asked for, or the hosts can't be joined.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it.
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    hosts = _COUNT.value or 1
    dividing = [
        n for n in range(1, cores + 1) if all(s % (n * hosts) == 0 for s in batch_sizes)
    ]
    jax.config.update("jax_num_cpu_devices", _DEVICES.value or max(dividing, default=1))
    _join_hosts()
    found = jax.local_device_count()
    if _DEVICES.value and _DEVICES.value > found:
        raise InputError(f"--devices={_DEVICES.value} is not valid: there are {found}")
    return parallel.all_devices(_DEVICES.value)


def _join_hosts() -> None:
    given = (_COORDINATOR.value, _COUNT.value, _INDEX.value)
    if _DISTRIBUTED.value and given == (None, None, None):
        parallel.connect()
        return
    if None in given and any(value is not None for value in given):
        raise InputError(
            "--coordinator, --process_count and --process_index go together: give "
            "all three, or --distributed alone where a cluster tells them"
        )
    if _COORDINATOR.value is None:
        return
    host, _, port = _COORDINATOR.value.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(
            f"--coordinator={_COORDINATOR.value} is not valid: use HOST:PORT, the port "
            f"from 1 to {2**16 - 1}"
        )
    if _INDEX.value >= _COUNT.value:
        raise InputError(
            f"--process_index={_INDEX.value} is not valid: use 0 to {_COUNT.value - 1}"
        )
    parallel.connect(*given)


def show(make: Callable[[], str]) -> None:
    """Prints what `make` returns, on the first host alone: it writes files, too."""
    if parallel.is_first():
        print(make())
    parallel.wait_for_all()


def batch_sizes(config: ConfigDict) -> set[int]:
    """The batches that the devices share."""
    return {config.train.batch_size, config.evaluate.batch_size}


def _keep_compiled_programs() -> None:
    """Compiled programs are kept for the next run, in the user's cache."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "advloss"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def run(
    main: Callable[[], None],
    *,
    required: Sequence[str] = ("workdir",),
    saved_config: bool = False,
) -> None:
    """Parses the flags and runs `main`; what the user can mend becomes one line.

    Args:
        main: the launcher's work.
        required: flags without which it cannot run.
        saved_config: whether --config is by default the one in the work directory.
    """

    def parse(argv: list[str]) -> list[str]:
        if saved_config:
            argv = _with_saved_config(argv)
        try:
            rest = flags.FLAGS(argv)
        except Exception as error:  # A config file is code and may raise anything.
            _fail(_flag_message(error))
        if rest[1:]:
            _fail(f"{rest[1]!r} is not a flag: flags begin with --")
        for name in required:
            if not flags.FLAGS[name].value:
                _fail(f"--{name} is missing")
        return rest

    def guarded(_) -> None:
        logging.set_verbosity(logging.WARNING)  # JAX tells of absent backends.
        warnings.showwarning = _show_warning
        threading.excepthook = sys.unraisablehook = _show_background_error
        _keep_compiled_programs()
        stopping.listen()
        try:
            main()
        except Stopped as stop:
            print(f"\n{stop}: the same command continues", file=sys.stderr)
        except (InputError, DivergedError) as error:
            _fail(str(error))
        except (OSError, jax.errors.JaxRuntimeError, ValueError) as error:
            if _is_alone(error):
                _fail(
                    "another process of this run has ended or can't be reached, see "
                    f"what it said: the same commands continue ({line(error)})"
                )
            if not isinstance(error, OSError):
                raise
            _fail(f"a file can't be read or written: {error}")
        except KeyboardInterrupt:
            print("\ninterrupted: the same command continues", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=parse)


# What XLA, its collectives and orbax's barriers say where another process is gone.
_GONE = re.compile(
    "^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED): |Gloo|remote process|"
    "Connection (reset|closed|refused)|Barrier timed out"
)


def _is_alone(error: Exception) -> bool:
    """Whether it came of another process that is no longer there."""
    return jax.distributed.is_initialized() and any(
        isinstance(cause, TimeoutError) or _GONE.search(str(cause))
        for cause in causes(error)
    )


def _with_saved_config(argv: list[str]) -> list[str]:
    """Names the config of --workdir first, so that overrides apply to it."""
    finder = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    finder.add_argument("--config")
    finder.add_argument("--workdir")
    try:
        named, _ = finder.parse_known_args(argv[1:])
    except argparse.ArgumentError:
        return argv  # A flag without its value: absl says so.
    if named.config is not None or not named.workdir:
        return argv
    saved = Path(__file__).parents[1] / "configs" / "saved.py"
    return [argv[0], f"--config={saved}:{named.workdir}", *argv[1:]]


def _flag_message(error: Exception) -> str:
    """The last line of an error in a flag or a config file, its traceback left out."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]  # ml_collections wraps what it found.
    # The text of a KeyError is the repr of what it says.
    said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    message = (lines or ["no reason given"])[-1].removeprefix("ValueError: ")
    if isinstance(error, flags.Error | ValueError):
        return message
    if isinstance(error, AttributeError | KeyError):
        return f"--config has no such key: {' '.join(lines)}"
    return f"--config can't be read: {type(error).__name__}: {message}"


def _show_warning(message: Warning, *_) -> None:
    print(f"warning: {message}", file=sys.stderr)


@functools.cache
def _warn_once(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _show_background_error(failure: Any) -> None:
    """Of what writes in the background: what it is for fails too, and says so."""
    text = " ".join(str(failure.exc_value).split())[:200]
    if text != "Event loop is closed":  # orbax's, of each array that failed.
        _warn_once(f"{failure.exc_type.__name__}: {text}")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    if jax.distributed.is_initialized():
        # At once, and the others learn of it: a regular end would wait for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)
    sys.exit(2)
