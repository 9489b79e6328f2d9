"""In which order training sees its examples."""

import jax
import jax.numpy as jnp

from advloss.types import Array


def draw(key: Array, start: Array, count: int, num_examples: int) -> Array:
    """Indices at `start ... start + count - 1` of an endless row of shuffled epochs.

    Every epoch is another permutation of all examples, drawn from the key and the
    epoch's number: where in the row one begins to read changes nothing.

    Returns:
        `[count]` int32.
    """
    first = start // num_examples
    epochs = first + jnp.arange((count + num_examples - 2) // num_examples + 1)
    orders = jax.vmap(
        lambda epoch: jax.random.permutation(
            jax.random.fold_in(key, epoch), num_examples
        )
    )(epochs)
    positions = start + jnp.arange(count)
    return orders[positions // num_examples - first, positions % num_examples]
