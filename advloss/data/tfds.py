"""Data sets of TensorFlow Datasets, read without TensorFlow."""

from typing import Any

import numpy as np

from advloss.errors import InputError, line
from advloss.types import Split


def load(*, dir: str, name: str, manual_dir: str) -> tuple[Split, Split]:
    """An image classification data set that TensorFlow Datasets prepares.

    Raises:
        InputError: there is none of that name, it is of another kind, or it can't be
            downloaded and prepared.
    """
    import tensorflow_datasets as tfds  # Slow to import, and only needed here.

    try:
        # ArrayRecord files are read without TensorFlow.
        builder = tfds.builder(name, data_dir=dir or None, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"config.data.name={name!r} is not valid: use a data set of TensorFlow "
            "Datasets, such as mnist or fashion_mnist"
        ) from error
    except Exception as error:  # Versions and builder settings fail in many ways.
        raise _failed(name, error) from error
    if not {"image", "label"} <= set(builder.info.features or {}):
        raise InputError(
            f"config.data.name={name!r} is not valid: use a data set with an image and "
            f"a label; it has {', '.join(builder.info.features or {})}"
        )
    options = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
    try:
        builder.download_and_prepare(download_config=options)
    except ImportError as error:
        raise InputError(
            f"config.data.name={name!r} is not prepared yet, and that takes what "
            f"'pip install advloss[tfds]' installs: {error}"
        ) from error
    except Exception as error:  # The network, checksums, the disk, missing files.
        raise _failed(name, error) from error
    return _read(builder, "train"), _read(builder, "test")


def _failed(name: str, error: Exception) -> InputError:
    return InputError(
        f"config.data.name={name!r}: TensorFlow Datasets can't prepare it "
        f"({type(error).__name__}: {line(error)}): use another name, or files "
        "downloaded by hand in config.data.manual_dir"
    )


def _read(builder: Any, split: str) -> Split:
    if split not in builder.info.splits:
        raise InputError(
            f"config.data.name={builder.name!r} is not valid: it has no split {split}, "
            f"only {', '.join(builder.info.splits)}"
        )
    examples = list(builder.as_data_source(split=split))
    images = [example["image"] for example in examples]
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise InputError(
            f"config.data.name={builder.name!r} is not valid: its images have "
            f"{len(sizes)} different sizes; they must have one"
        )
    return Split(np.stack(images), np.asarray([each["label"] for each in examples]))
