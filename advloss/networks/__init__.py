"""Networks as pure functions, and the only room that imports flax.

    network = networks.build("table1", head="linear", num_classes=10)
    variables = network.init(key, (28, 28, 1))
    logits, activations, variables = network.apply(variables, images)

`variables` is the whole flax tree. `activations` holds every layer's output by name;
under `jit`, what is not used is not computed. An attack sees
`networks.classifier(network, variables)`, images -> logits.

To add a network: write a subclass of `layers.Architecture`, and enter it in `NETWORKS`;
or name one's own (docs/add-a-network.md).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from advloss import imported
from advloss.errors import InputError, shown
from advloss.networks import mlp, own, resnet, table1
from advloss.networks.layers import (
    ACTIVATIONS,
    HEADS,
    INITIALISERS,
    PRECISIONS,
    Architecture,
)
from advloss.networks.network import (
    Network,
    as_network,
    classifier,
    from_flax,
    predictor,
)
from advloss.registry import Setting

__all__ = [
    "ACTIVATIONS", "HEADS", "INITIALISERS", "NETWORKS", "PRECISIONS", "Network",
    "build", "build_own", "check_settings", "classifier", "divisor", "from_flax",
    "of_library", "parts", "predictor", "settings_of", "title",
]  # fmt: skip


class Entry(NamedTuple):
    """An entry of the registry.

    Attributes:
        module: the class, called with the settings beside what every network takes.
        title: its name in tables.
        settings: keys of `config.model`.
    """

    module: type[Architecture]
    title: str
    settings: Mapping[str, Setting] = {}


NETWORKS = {
    "table1": Entry(table1.Table1, "the network of Table I"),
    "mlp": Entry(mlp.Mlp, "a dense network"),
    "resnet8": Entry(resnet.ResNet8, "a small residual network", resnet.SHARED),
    "preact_resnet18": Entry(
        resnet.PreActResNet18, "PreActResNet-18", {**resnet.SHARED, **resnet.PREACT}
    ),
    "wide_resnet": Entry(
        resnet.WideResNet, "WideResNet", {**resnet.SHARED, **resnet.WIDE}
    ),
}


def build(
    name: str,
    *,
    head: str,
    num_classes: int,
    init: str = "lecun",
    precision: str = "float32",
    activation: str = "relu",
    **settings: Any,
) -> Network:
    """The network of that name in `NETWORKS`, or of one's own.

    Args:
        name: a key of `NETWORKS`, or PACKAGE.MODULE:NAME (`networks.own`).
        head: of the last layer, a key of `HEADS`.
        num_classes: the number of logits.
        init: how weights and biases begin, a key of `INITIALISERS`.
        precision: of all layers but the last, a key of `PRECISIONS`; parameters,
            logits and what `apply` returns are float32 at each.
        activation: of every hidden layer, a key of `ACTIVATIONS`.
        settings: those of the network and of the activation.

    Raises:
        InputError: no head of that name, or the value of a setting is not valid; or a
            network of one's own is none, see `own.load`.
    """
    if head not in HEADS:
        raise InputError(
            f"the loss asks for the head {head!r}: use one of {', '.join(HEADS)}"
        )
    entry = ACTIVATIONS[activation]
    bound = {key: settings.pop(key) for key in entry.settings if key in settings}
    function = functools.partial(entry.function, **bound) if bound else entry.function
    if imported.is_path(name):
        if settings:
            raise TypeError(f"{name} has no setting {', '.join(settings)}")
        chosen = {
            "head": head, "init": init, "precision": precision, "activation": activation
        }  # fmt: skip
        given = {**chosen, "activation": function, "num_classes": num_classes}
        return own.load(name, chosen, given)
    check_settings(name, settings)
    module = NETWORKS[name].module(
        num_classes, head, init, precision, function, **settings
    )
    return as_network(module, ("train", "axis"), module.layers)


def build_own(name: str, **given: Any) -> Network:
    """As `build`, of what may fail in its author's code: that is told in one line."""
    made = own.told(name, build)(name, **given)
    return made if imported.is_path(name) else own.telling(name, made)


def parts(
    name: str, *, head: str, init: str, precision: str, activation: str, **_: Any
) -> tuple[Any, ...]:
    """What the names that `build` takes stand for, as of now."""
    module = NETWORKS[name].module if name in NETWORKS else None
    function = ACTIVATIONS[activation].function
    return module, function, HEADS.get(head), INITIALISERS[init], PRECISIONS[precision]


def of_library(parts: tuple[Any, ...]) -> bool:
    """Whether the class and the functions among `parts` stay what they are."""
    homes = [getattr(part, "__module__", "").split(".")[0] for part in parts[:3]]
    return {*homes} <= {"advloss", "flax", "jax"}


def settings_of(name: str, activation: str = "relu") -> Mapping[str, Setting]:
    """Those of a network and an activation; a network of one's own has none."""
    found = NETWORKS[name].settings if name in NETWORKS else {}
    return {**found, **ACTIVATIONS[activation].settings}


def check_settings(name: str, given: Mapping[str, Any]) -> None:
    """Values must be valid for a network of the library. Raises InputError."""
    known = NETWORKS[name].settings
    for key, value in given.items():
        valid = known[key].valid if key in known else None
        if valid and not (type(value) is valid.kind and valid.accepts(value)):
            raise InputError(
                f"config.model.{key}={shown(value)} is not valid: use {valid.text}"
            )


def title(name: str) -> str:
    """A network's name in tables."""
    return NETWORKS[name].title if name in NETWORKS else name


def divisor(name: str) -> int:
    """What must divide the images' height and width."""
    return NETWORKS[name].module.divisor if name in NETWORKS else 1
