"""Table I: the layers of the paper's network, from the network itself."""

import math

import jax
import jax.numpy as jnp

from advloss import networks
from advloss.report.section import Section


def section() -> Section:
    """Units, shapes and parameters of every layer."""
    network = networks.build("table1", head="linear", num_classes=10)
    variables = jax.eval_shape(
        lambda key: network.init(key, (28, 28, 1)), jax.random.key(0)
    )
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    _, layers, _ = jax.eval_shape(network.apply, variables, images)
    table = [["layer", "units", "input shape", "output shape", "parameters"]]
    records, shape, total = [], images.shape[1:], 0
    for name in network.layers:
        weights = variables["params"].get(name, {})
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(weights))
        taken = (math.prod(shape),) if name.startswith("fc") else shape
        given = layers[name].shape[1:]
        units = str(weights["kernel"].shape[-1]) if weights else ""
        if name.startswith("conv"):
            units += " (5 x 5)"
        shapes = [" x ".join(map(str, each)) for each in (taken, given)]
        table.append([name, units, *shapes, f"{count:,}" if count else ""])
        records.append({"part": "table1", "layer": name, "parameters": count})
        shape, total = given, total + count
    table.append(["in all", "", "", "", f"{total:,}"])
    note = "With the cosine head of LMCL the last layer has no bias: ten less."
    return Section("Table I: the paper's network", table, [note], records=records)
