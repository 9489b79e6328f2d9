"""FAB and Square against what is worked out by hand or by other means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import advloss
from advloss import attacks, losses
from advloss.attacks import direct, plane
from advloss.attacks.fab import fab, fab_rounds, fab_t
from advloss.attacks.square import _bump, _side, square, square_rounds
from advloss.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

_LENGTHS = {"linf": np.inf, "l2": 2}
fab, fab_t, square = map(direct.attack, (fab, fab_t, square))
each_norm = pytest.mark.parametrize("norm", _LENGTHS)


def _shortest_length(point, normal, gain, norm):
    """By a solver that knows nothing of hyperplanes; None where none is met."""
    count = len(point)
    if norm == "linf":  # Over (change, t): t, where |change| <= t.
        one = np.ones((count, 1))
        found = scipy.optimize.linprog(
            np.r_[np.zeros(count), 1],
            A_ub=np.r_[np.c_[np.eye(count), -one], np.c_[-np.eye(count), -one]],
            b_ub=np.zeros(2 * count),
            A_eq=np.r_[normal, 0][None],
            b_eq=[gain],
            bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
        )
        return found.fun if found.success else None
    # The dual has one variable: change = clip(rate * normal, box).
    edges = -point, 1 - point

    def missing(rate):
        return normal @ np.clip(rate * normal, *edges) - gain

    if missing(-1e6) > 0 or missing(1e6) < 0:
        return None
    rate = scipy.optimize.brentq(missing, -1e6, 1e6, xtol=1e-14)
    return np.linalg.norm(np.clip(rate * normal, *edges))


@each_norm
@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_the_projection_is_the_shortest_way(norm, size):
    rng = np.random.default_rng(size)
    points = rng.uniform(-0.3, 1.3, (60, size)).clip(0, 1).astype(np.float32)
    normals = rng.normal(size=(60, size)) * rng.choice([0, 1, 100], (60, size))
    normals = normals.astype(np.float32)
    gains = rng.uniform(-0.8, 0.8, 60) * np.abs(normals).sum(axis=1)
    gains = gains.astype(np.float32)
    changes = np.asarray(plane.shortest_change(points, normals, gains, norm))
    assert (points + changes).min() >= 0
    assert (points + changes).max() <= 1
    met = 0
    for point, normal, gain, change in zip(
        *(np.float64(x) for x in (points, normals, gains, changes)), strict=True
    ):
        shortest = _shortest_length(point, normal, gain, norm)
        reached = normal @ change
        if shortest is None:  # As far as the box goes.
            corner = np.where(gain * normal > 0, 1, 0)
            best = normal @ np.where(normal == 0, 0, corner - point)
            np.testing.assert_allclose(reached, best, rtol=1e-5, atol=1e-5)
            continue
        met += 1
        scale = np.abs(normal).sum()
        assert abs(reached - gain) <= 1e-6 * scale
        length = np.linalg.norm(change, ord=_LENGTHS[norm])
        assert length <= shortest * (1 + 1e-4) + 1e-6
    assert 15 <= met < 60


@each_norm
def test_no_plane_is_no_change(norm):
    points = jnp.full((2, 3, 3, 1), 0.5)
    change = plane.shortest_change(points, 0 * points, jnp.ones(2), norm)
    np.testing.assert_array_equal(change, 0 * points)


def _linear(weights, bias, images):
    return images.reshape(len(images), -1) @ weights + bias[None]


def _linear_problem(low, high):
    """A linear classifier of 4 classes and its weights; keys, images, labels."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(30, 4)).astype(np.float32)
    network = functools.partial(_linear, weights, np.zeros(4, np.float32))
    images = rng.uniform(low, high, (20, 5, 3, 2)).clip(0, 1).astype(np.float32)
    labels = jnp.argmax(network(images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(1), jnp.arange(20))
    return network, weights, (keys, images, labels)


def _distances(weights, images, labels, norm):
    """`[n, classes]` from each image to the boundary of each class, inf to its own."""
    found = np.full((len(images), weights.shape[1]), np.inf)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        point = np.float64(image.ravel())
        for other in set(range(weights.shape[1])) - {int(label)}:
            normal = np.float64(weights[:, other] - weights[:, label])
            shortest = _shortest_length(point, normal, -normal @ point, norm)
            found[i, other] = np.inf if shortest is None else shortest
    return found


@each_norm
@pytest.mark.parametrize(
    # FAB chooses a plane as if there were no box: inside it, that is the nearest.
    ("attack", "spread"),
    [(fab, (0.3, 0.7)), (fab_t, (-0.3, 1.3))],
    ids=["fab", "fab_t"],
)
def test_fab_finds_the_nearest_point_of_a_linear_boundary(attack, spread, norm):
    network, weights, (keys, images, labels) = _linear_problem(*spread)
    result = attack(network, keys, images, labels, steps=20, norm=norm)
    nearest = _distances(weights, images, np.asarray(labels), norm).min(axis=1)
    assert (result.distance >= nearest * (1 - 1e-5)).all()
    assert (result.distance <= nearest * 1.01).all()
    seen = losses.margin(network(result.images), labels)
    np.testing.assert_allclose(-result.objective, seen, atol=1e-4)


def test_fab_t_goes_to_the_class_of_the_rank():
    network, weights, batch = _linear_problem(-0.3, 1.3)
    order = np.argsort(-np.asarray(network(batch[1])), axis=1)
    distances = _distances(weights, *batch[1:], "l2")
    attack = functools.partial(fab_t, network, *batch, steps=20, norm="l2")
    for rank in (2, 4):
        result = attack(rank=jnp.asarray(rank))
        to_class = distances[np.arange(20), order[:, rank - 1]]
        # Another class may be met on the way.
        assert (result.distance <= to_class * 1.01).all()
        towards = np.argmax(network(result.images), axis=1) == order[:, rank - 1]
        assert towards.sum() >= 5
        found = result.distance[towards]
        np.testing.assert_allclose(found, to_class[towards], rtol=0.01)
        assert (result.backward_passes == 20).all()
    with pytest.raises(InputError, match=r"rank=5 is not valid: use 2 to 4"):
        attack(rank=5)
    # Traced ones are not known: they are the nearest that there are.
    traced = jax.jit(lambda rank: attack(rank=rank).images)
    for beyond, nearest in ((1, 2), (9, 4)):
        np.testing.assert_array_equal(traced(beyond), traced(nearest))


def test_fab_keeps_what_was_found_before():
    """A start that fools stays, unless something nearer is found."""
    network, _, batch = _linear_problem(-0.3, 1.3)
    attack = functools.partial(fab, network, *batch)
    found = attack(steps=10, start=batch[1])
    kept = attack(steps=0, start=found.images)
    assert kept.success.all()
    assert (kept.distance <= found.distance * (1 + 1e-5)).all()
    nearer = attack(steps=10, start=1 - batch[1])
    np.testing.assert_allclose(nearer.distance, found.distance, rtol=1e-3)


def test_fab_goes_on_from_what_hardly_fools():
    """Large logits leave much room for rounding, in which no step must end."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(72, 16)) / 4, rng.normal(size=(16, 5))
    images = rng.uniform(size=(40, 6, 6, 2)).astype(np.float32)

    def network(constant, images):
        hidden = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ first)
        return constant + hidden @ second

    labels = jnp.argmax(network(0.0, images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(40))

    @jax.jit
    def distance(constant):
        classifier = functools.partial(network, constant)
        return fab_t(classifier, keys, images, labels, steps=30).distance

    ratio = distance(100.0) / distance(0.0)
    assert np.percentile(ratio, 90) < 1.02


def test_fab_rounds_are_classes_and_starts():
    rounds = fab_rounds({"restarts": 2, "target_classes": 9}, 3)
    assert [dict(part.numbers) for part in rounds] == [
        {"rank": rank, "restart": restart} for rank in (2, 3) for restart in (0, 1)
    ]
    assert all(part.resume for part in rounds)
    (only,) = fab_rounds({"restarts": 1}, 10)
    assert only.numbers == {}


def test_two_classes_are_enough():
    weights = np.random.default_rng(2).normal(size=(12, 2)).astype(np.float32)
    network = functools.partial(_linear, weights, np.zeros(2, np.float32))
    images = np.full((3, 2, 3, 2), 0.5, np.float32)
    labels = jnp.argmax(network(images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(1), jnp.arange(3))
    both = [attack(network, keys, images, labels, steps=5) for attack in (fab, fab_t)]
    assert both[0].success.all()
    np.testing.assert_allclose(both[0].distance, both[1].distance, rtol=1e-5)
    assert (both[1].backward_passes == 5).all()


def _sides(queries, height, width, p_init=0.8):
    shape = 1, height, width, 1
    return [int(_side(number, p_init, shape)) for number in queries]


def test_squares_shrink_as_by_hand():
    """sqrt(0.8 * 784 / 2^k), for k halvings before query 11, 51, ..., 4001."""
    firsts = [0, 11, 51, 201, 501, 1001, 2001, 4001]
    by_hand = [25, 18, 13, 9, 6, 4, 3, 2]
    assert _sides(firsts, 28, 28) == by_hand
    lasts = [first - 1 for first in firsts[1:]] + [4999]
    assert _sides(lasts, 28, 28) == by_hand
    assert _sides([6001, 8001, 100_000], 28, 28) == [2, 1, 1]
    assert _sides([0, 9999], 4, 30, p_init=1.0) == [4, 1]


@pytest.mark.parametrize("side", [2, 3, 5, 8])
def test_a_bump_is_a_hill_over_a_hollow(side):
    """Piled up square by square, as the paper draws it."""
    by_hand = np.zeros((side, side))
    for top, rows, sign in ((0, side // 2, 1), (side // 2, side - side // 2, -1)):
        half = np.zeros((rows, side))
        for k in range(max(rows // 2, side // 2) + 1):
            row, column = rows // 2, side // 2
            half[
                max(row - k, 0) : row + k + 1, max(column - k, 0) : column + k + 1
            ] += 1 / (k + 1) ** 2
        by_hand[top : top + rows] = sign * half / np.linalg.norm(half)
    by_hand /= np.linalg.norm(by_hand)
    size = 12
    places = jnp.indices((size, size)) - 3
    bump = np.asarray(_bump(places, side, size))
    np.testing.assert_allclose(bump[3 : 3 + side, 3 : 3 + side], by_hand, atol=1e-6)
    assert np.count_nonzero(bump) == side * side


def _trials(norm, shape, queries):
    """Every image that Square tries on one that can't be fooled, one after another."""
    seen = []

    def network(images):
        jax.debug.callback(lambda x: seen.append(np.array(x)), images, ordered=True)
        return jnp.stack(
            [1 + 0 * images.sum((1, 2, 3)), images.sum((1, 2, 3)) * 1e-3], 1
        )

    image = np.full((1, *shape), 0.5, np.float32)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(1))
    attack = functools.partial(
        square, network, images=image, labels=jnp.zeros(1, jnp.int32),
        epsilon=0.25, objective=losses.margin, norm=norm, queries=queries,
    )  # fmt: skip
    result = jax.jit(lambda keys: attack(keys=keys))(keys)
    jax.effects_barrier()
    assert int(result.forward_passes[0]) == len(seen) == queries + 1
    return np.array([x[0] for x in seen]), result


def test_square_tries_stripes_then_squares_of_one_colour():
    trials, _ = _trials("linf", (9, 14, 3), 60)
    np.testing.assert_array_equal(trials[0], np.full((9, 14, 3), 0.5))
    assert (trials[1] == trials[1][:1]).all()  # Columns.
    assert set(np.unique(trials[1:])) == {0.25, 0.75}
    best, score = trials[1], trials[1].sum()
    places = set()
    for number, trial in enumerate(trials[2:], start=1):
        changed = np.argwhere((trial != best).any(axis=-1))
        if len(changed):
            side = _sides([number], 9, 14)[0]
            assert (np.ptp(changed, axis=0) < side).all()
            (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
            for channel in range(3):
                window = trial[top : bottom + 1, left : right + 1, channel]
                assert len(np.unique(window)) == 1
            places.add((top, left))
        if trial.sum() > score:
            best, score = trial, trial.sum()
    assert len(places) > 20


def test_square_in_l2_uses_the_whole_radius():
    trials, result = _trials("l2", (11, 7, 2), 60)
    lengths = np.sqrt(((trials[1:] - 0.5) ** 2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(lengths, 0.25, rtol=1e-5)
    # Every trial differs from the best at that time in two windows at most.
    assert len({trial.tobytes() for trial in trials}) == len(trials)
    assert result.distance[0] <= 0.25 + 2**-24


@each_norm
def test_square_asks_no_more_once_it_fools(norm):
    """What fools stays, its queries are over, and the others go on."""

    def network(x):
        return jnp.stack([0.51 + 0 * x[:, 0, 0, 0], x.mean((1, 2, 3))], axis=1)

    images = np.stack([np.full((6, 6, 1), level, np.float32) for level in (0.5, 0.1)])
    attack = functools.partial(
        square, network, objective=losses.margin, epsilon=0.2, norm=norm,
    )  # fmt: skip
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(2))
    labels = jnp.zeros(2, jnp.int32)
    long, short = (
        attack(keys, images, labels, queries=jnp.array(n)) for n in (300, 99)
    )
    assert long.success.tolist() == [True, False]
    assert long.forward_passes[0] == short.forward_passes[0] < 90
    assert long.forward_passes[1] == 301
    np.testing.assert_array_equal(short.images[0], long.images[0])


def test_square_rounds_make_every_query_once():
    for queries in (1, 50, 51, 1000, 5000):
        rounds = square_rounds({"queries": queries}, 10)
        parts = [(part.numbers["done"], part.numbers["queries"]) for part in rounds]
        asked = [number for done, end in parts for number in range(done, end)]
        assert asked == list(range(queries))
    assert len(parts) == 8


def test_in_rounds_they_leave_whom_they_leave_at_once():
    """As `evaluate` attacks: an example leaves as soon as it is fooled."""
    network, _, (_, images, labels) = _linear_problem(-0.3, 1.3)
    keys = attacks.example_keys(jax.random.key(3), jnp.arange(20))
    how = {"seed": 3, "progress": False, "devices": jax.devices()[:1]}
    evaluate = functools.partial(advloss.evaluate, network, images, labels, **how)

    nearest = fab_t(network, keys, images, labels, steps=10).distance
    epsilons = np.quantile(nearest, [0.3, 0.7])
    result = evaluate(epsilon=epsilons, attacks="fab_t", steps=10)
    np.testing.assert_array_equal(result.robust, nearest[None] > epsilons[:, None])
    # Class by class, until the image is near enough.
    assert {10, 30} <= set(result.backward_passes.tolist()) <= {10, 20, 30}

    settings = {"epsilon": 0.06, "queries": 120}
    found = square(network, keys, images, labels, objective=losses.margin, **settings)
    result = evaluate(attacks="square", **settings)
    np.testing.assert_array_equal(result.robust[0], ~found.success)
    assert 3 <= found.success.sum() <= 17
    spent = result.forward_passes - found.forward_passes
    # One look at the natural image, and in each round at what it goes on from and at
    # what it leaves.
    assert set(spent.tolist()) <= {2, 4, 6}
