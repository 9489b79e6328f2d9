"""A network of one's own, named in a config as PACKAGE.MODULE:NAME.

    --config.model.name=my_package.my_module:build

`build(num_classes)` returns a flax module, images -> logits, or a `Network`. It may
also take `head`, `init` and `precision`, names as the loss and the config have them,
and `activation`, a function of an array. What it does not take must be what it is where
nothing is said: the head `linear`, and the defaults of `config.model`.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from advloss import imported
from advloss.errors import InputError, line
from advloss.networks.network import Network, from_flax

# What one may do without: the head, and the defaults of the keys of config.model.
USUAL = {
    "head": "linear", "init": "lecun", "precision": "float32", "activation": "relu"
}  # fmt: skip


def load(name: str, chosen: Mapping[str, str], given: Mapping[str, Any]) -> Network:
    """The network of that name.

    Args:
        name: PACKAGE.MODULE:NAME, of a function or class; the module is imported.
        chosen: the names of what `USUAL` has.
        given: what it gets of that, and `num_classes`, where it takes it.

    Raises:
        InputError: there is no such module or name, it fails, does not take what is
            chosen, or returns something else than a network.
    """
    function = _find(name)
    taken = _taken(name, function, given)
    for key, value in chosen.items():
        if key not in taken and value != USUAL[key]:
            said = f"config.model.{key}={value!r} is not valid"
            if key == "head":
                said = f"the loss asks for the head {value!r}"
            raise InputError(f"{said}: config.model.name={name!r} takes no {key}")
    found = told(name, function)(**{key: given[key] for key in taken})
    network = from_flax(found) if isinstance(found, nn.Module) else found
    if not isinstance(network, Network):
        raise InputError(
            f"config.model.name={name!r} returned a {type(found).__name__}: it must "
            "return a flax.linen.Module or an advloss.networks.Network"
        )
    return telling(name, network)


def telling(name: str, network: Network) -> Network:
    """The same network; what its functions raise becomes one line."""
    init, apply = (told(name, each) for each in (network.init, network.apply))
    return network._replace(init=init, apply=apply)


def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; what it raises becomes one line, but for what JAX runs."""

    def called(*given: Any, **settings: Any) -> Any:
        try:
            return function(*given, **settings)
        except (InputError, MemoryError, jax.errors.JaxRuntimeError):
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"config.model.name={name!r} fails: {type(error).__name__}: "
                f"{line(error)}"
            ) from error

    return called


def _find(name: str) -> Callable[..., Any]:
    found = imported.named(name, "model.name")
    if not callable(found):
        raise InputError(
            f"config.model.name={name!r} is a {type(found).__name__}: use a function "
            "or class that takes num_classes and returns a network"
        )
    return found


def _taken(
    name: str, function: Callable[..., Any], given: Mapping[str, Any]
) -> list[str]:
    """What it takes of what is given. Raises InputError: it is no such function."""
    parameters: Mapping[str, inspect.Parameter] = {}  # One in C may have none.
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(function).parameters
    if "num_classes" not in parameters:
        raise InputError(
            f"config.model.name={name!r} takes no num_classes: use a function or class "
            "that takes it and returns a network"
        )
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    for key, parameter in parameters.items():
        wants = parameter.default is parameter.empty and parameter.kind not in several
        if wants and key not in given:
            raise InputError(
                f"config.model.name={name!r} takes {key}, which nothing gives: give it "
                f"a default, or use some of {', '.join(given)}"
            )
    return [key for key in parameters if key in given]
