"""Carlini and Wagner's attacks against other implementations of them.

    python benchmarks/referee_carlini.py --workdir=runs/quickstart/undefended --norm=l2
    python benchmarks/referee_carlini.py --workdir=... --norm=linf --save=digits.npz

Attacks the first test digits that the network classifies correctly. For l2 the peer is
foolbox, with the same number of steps and of constants. For l-inf the peer runs in
another environment, on the network and images of `--save`.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import advloss
from advloss import attacks, runs

_WORKDIR = flags.DEFINE_string("workdir", None, "a trained run", required=True)
_NORM = flags.DEFINE_enum("norm", "l2", ["l2", "linf", "l0"], "which attack")
_DIGITS = flags.DEFINE_integer("digits", 50, "how many test images")
_STEPS = flags.DEFINE_integer("steps", 200, "iterations for each constant")
_SEARCH = flags.DEFINE_integer("search", 5, "constants (l2), rounds (linf, l0)")
_SAVE = flags.DEFINE_string("save", None, "writes images, labels, parameters there")


def _digits(run, count):
    """The first `count` test images that are classified correctly."""
    test = runs.load_data(run.config).test
    images = jnp.asarray(test.images[: 2 * count])
    labels = jnp.asarray(test.labels[: 2 * count], jnp.int32)
    right = np.flatnonzero(jnp.argmax(run.classifier(images), -1) == labels)[:count]
    return images[right], labels[right]


def _report(name, distances, seconds):
    found = np.isfinite(distances)
    print(
        f"{name:10} found {found.mean():6.1%}  median {np.median(distances):.4f}  "
        f"mean of found {distances[found].mean():.4f}  {seconds:.1f} s",
        flush=True,
    )
    return np.median(distances)


def _ours(run, images, labels):
    # `search` of the command line counts constants for l2, rounds for the others.
    counts = {"l2": "binary_search_steps", "linf": "rounds", "l0": "rounds"}
    settings = {"steps": _STEPS.value, counts[_NORM.value]: _SEARCH.value}
    attack = attacks.ATTACKS[f"carlini_{_NORM.value}"]
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(labels)))
    compiled = jax.jit(lambda x, y: attack(run.classifier, keys, x, y, **settings))
    started = time.perf_counter()
    result = jax.block_until_ready(compiled(images, labels))
    seconds = time.perf_counter() - started
    fooled = jnp.argmax(run.classifier(result.images), -1) != labels
    assert (fooled == result.success).all(), "success is not true"
    print(f"{int(result.gradients[0])} gradients an image")
    return _report("advloss", np.asarray(result.distance), seconds)


def _foolbox(run, images, labels):
    """With `abort_early`, off here, it would stop before its budget is spent."""
    import eagerpy as ep
    import foolbox

    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=_SEARCH.value, steps=_STEPS.value, abort_early=False
    )
    model = foolbox.JAXModel(run.classifier, bounds=(0, 1))
    started = time.perf_counter()
    found, _, success = attack(
        model, ep.astensor(images), ep.astensor(labels), epsilons=None
    )
    found, success = np.asarray(found.raw), np.asarray(success.raw)
    # Where it finds nothing it returns a black image, which may fool by itself.
    success = success & (found.max(axis=(1, 2, 3)) > 0)
    distances = np.sqrt(((found - images) ** 2).sum(axis=(1, 2, 3)))
    distances = np.where(success, distances, np.inf)
    return _report("foolbox", distances, time.perf_counter() - started)


def main(_):
    run = advloss.load_run(_WORKDIR.value)
    images, labels = _digits(run, _DIGITS.value)
    if _SAVE.value:
        flat, _ = jax.tree_util.tree_flatten_with_path(run.params)
        params = {jax.tree_util.keystr(path): np.asarray(x) for path, x in flat}
        np.savez(_SAVE.value, images=images, labels=labels, **params)
    ours = _ours(run, images, labels)
    if _NORM.value == "l2":
        print(f"ratio of medians {ours / _foolbox(run, images, labels):.3f}")


if __name__ == "__main__":
    app.run(main)
