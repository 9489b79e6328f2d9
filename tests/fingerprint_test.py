"""What functions compute, as digests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss.attacks import fingerprint
from advloss.networks import ops


def _by_custom_jvp(sign):
    made = jax.custom_jvp(jnp.rint)
    made.defjvp(lambda given, moved: (jnp.rint(given[0]), sign[0] * moved[0]))
    return made


def _by_custom_vjp(sign):
    made = jax.custom_vjp(jnp.rint)
    made.defvjp(lambda x: (jnp.rint(x), None), lambda _, g: (sign[0] * g,))
    return made


def _by_custom_gradient(sign):
    return jax.custom_gradient(lambda x: (jnp.rint(x), lambda g: sign[0] * g))


@pytest.mark.parametrize("make", [_by_custom_jvp, _by_custom_vjp, _by_custom_gradient])
def test_a_changed_rule_of_a_function_of_jax_is_seen(make):
    sign = [1.0]
    rounded = make(sign)
    found = [
        fingerprint.look_at(rounded, jax.ShapeDtypeStruct((2,), np.float32)).lasting
        for sign[0] in (1.0, 1.0, 0.0)
    ]
    assert found[0] == found[1] != found[2]


def test_a_rule_of_jax_or_of_ours_is_not_asked_for():
    def network(images):
        return jax.nn.relu(ops.conv2d(images, jnp.ones((3, 3, 1, 2))))

    made = jax.make_jaxpr(network)(jnp.zeros((1, 4, 4, 1)))
    equations = [e for each in fingerprint._programs(made) for e in each.eqns]
    assert any(e.primitive.name.startswith("custom_") for e in equations)
    assert not any(map(fingerprint._has_own_rule, equations))


def test_what_is_called_on_the_host_is_known_by_its_code():
    def calling(factor):
        shape = jax.ShapeDtypeStruct((2,), np.float32)
        if factor > 0:
            return lambda x: jax.pure_callback(lambda v: v * 2, shape, x)
        return lambda x: jax.pure_callback(lambda v: v - 2, shape, x)

    def inner(x):
        return jax.pure_callback(lambda v: v + (lambda: 1)(), image, x)

    def other(x):
        return jax.pure_callback(lambda v: v + (lambda: 2)(), image, x)

    image = jax.ShapeDtypeStruct((2,), np.float32)
    nested = [fingerprint.look_at(each, image).lasting for each in (inner, other)]
    assert nested[0] != nested[1]
    found = [fingerprint.look_at(calling(factor), image) for factor in (1, 1, -1)]
    assert found[0].lasting == found[1].lasting != found[2].lasting
    assert found[0].program != found[1].program  # Another object, whatever it reads.
