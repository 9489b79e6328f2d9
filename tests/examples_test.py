"""The evaluator: any size of split, any batch, any number of devices, full or not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, losses
from advloss.attacks import ATTACKS, MINIMUM_NORM
from advloss.attacks.base import Round
from advloss.config import build
from advloss.errors import InputError
from advloss.evaluation import examples
from advloss.evaluation.batches import Finished
from advloss.evaluation.mapped import Mapped, map_split
from advloss.evaluation.programs import Adversary, Target
from advloss.types import AttackResult, Split

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CLASSES, PIXELS, COUNT = 5, 16, 110
EPSILON = {"linf": 0.08, "l2": 0.25, "l0": 2.0}


def _classifier_of(variables):
    def classifier(images):
        hidden = jax.nn.relu(images.reshape(len(images), -1) @ variables["first"])
        return hidden @ variables["second"]

    return classifier


@pytest.fixture(scope="module")
def target():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(PIXELS, 20)).astype(np.float32)
    second = rng.normal(size=(20, CLASSES)).astype(np.float32)
    return Target(_classifier_of, {"first": first, "second": second})


@pytest.fixture(scope="module")
def split(target):
    """Every seventh label is another than the prediction."""
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(COUNT, 4, 4, 1)).astype(np.float32)
    logits = _classifier_of(target.variables)(images)
    labels = np.argmax(np.asarray(logits), axis=-1).astype(np.int32)
    labels[::7] = (labels[::7] + 1) % CLASSES
    return Split(images, labels)


@functools.cache
def _function(name, settings):
    return build.bind_attack(name, dict(settings), losses.softmax_cross_entropy)


def _adversary(name, **changes):
    entry = ATTACKS[name]
    settings = {key: setting.default for key, setting in entry.settings.items()}
    settings["epsilon"] = EPSILON[entry.norm]
    if "step_size" in settings:
        settings["step_size"] = EPSILON[entry.norm] / 8
    settings |= changes
    return Adversary(_function(name, tuple(settings.items())), entry, settings)


def _attack(target, split, name="pgd", *, devices=1, batch_size=40, **keywords):
    adversary = _adversary(name, **keywords.pop("settings", {"steps": 12}))
    return examples.attack(
        target,
        adversary,
        split,
        seed=0,
        batch_size=batch_size,
        devices=jax.devices()[:devices],
        **keywords,
    )


@pytest.mark.parametrize("batch_size", [7, 110, 200])
def test_the_batch_size_changes_nothing(target, split, batch_size):
    whole, other = (
        _attack(target, split, batch_size=size, survivors=survivors)
        for size, survivors in ((40, None), (batch_size, None))
    )
    assert len(other.correct) == COUNT
    np.testing.assert_array_equal(whole.natural, other.natural)
    assert (whole.attacked == other.attacked).mean() > 0.98
    assert np.isclose(whole.images, other.images, atol=1e-6).mean() > 0.98


@pytest.mark.parametrize(
    ("total", "devices", "expected"),
    [
        (200, 2, [200]),
        (127, 2, [128]),  # Of 200 a third would be computed for nothing.
        (180, 2, [200]),  # 192 would save too little for a program of its own.
        (370, 1, [200, 200]),
        (250, 1, [128, 128]),
        (3, 3, [66]),
    ],
)
def test_batches_are_equally_full(total, devices, expected, monkeypatch):
    sizes, original = [], Mapped._one_batch

    def seen(self, arrays, start, count, size):
        sizes.append(size)
        return original(self, arrays, start, count, size)

    monkeypatch.setattr(Mapped, "_one_batch", seen)
    places = np.arange(total)
    run = Mapped(
        lambda _, x: 2 * x,
        {},
        201 if devices == 3 else 200,
        jax.devices()[:devices],
        most=1000,
    )
    np.testing.assert_array_equal(run(places), 2 * places)
    assert sizes == expected


@pytest.mark.parametrize("survivors", [None, np.ones(COUNT, bool)])
def test_devices_change_nothing(target, split, survivors):
    one, four = (
        _attack(target, split, devices=devices, survivors=survivors)
        for devices in (1, 4)
    )
    assert (one.attacked == four.attacked).mean() > 0.98
    assert np.isclose(one.images, four.images, atol=1e-6).mean() > 0.98


def test_accuracies_follow_from_predictions(target, split):
    outcome = _attack(target, split)
    np.testing.assert_array_equal(outcome.correct, outcome.attacked == split.labels)
    assert (outcome.worst_correct <= (outcome.natural == split.labels)).all()
    assert (outcome.worst_correct <= outcome.correct).all()
    assert outcome.distance.max() <= EPSILON["linf"] + 1e-6
    assert (outcome.backward_passes == 12).all()
    assert (outcome.forward_passes == 2).all()  # Of the start, of the result.
    assert 0.1 < outcome.worst_correct.mean() < 0.7


def test_an_example_is_attacked_as_if_it_were_alone(target, split):
    """Its place in the split makes its keys, and nothing else of the others."""
    outcome = _attack(target, split)
    adversary, index = _adversary("pgd", steps=12), 57
    alone = jax.jit(functools.partial(adversary.function, _classifier_of(target[1])))(
        jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.array([index])),
        split.images[index : index + 1],
        split.labels[index : index + 1],
    )
    np.testing.assert_allclose(outcome.images[index], alone.images[0], atol=1e-6)


def test_the_nearest_images_are_judged_by_their_distance(target, split):
    """Within the largest radius all that is found counts, within none only mistakes."""
    outcomes = {}
    for radius in (0.0, 0.3, 100.0):
        settings = {"search_steps": 4, "steps": 8, "epsilon": radius}
        outcomes[radius] = _attack(target, split, "lbfgs", settings=settings)
    natural = outcomes[0.0].natural == split.labels
    np.testing.assert_array_equal(outcomes[0.0].correct, natural)
    distance = outcomes[0.3].distance
    assert np.isfinite(distance).any()
    np.testing.assert_array_equal(outcomes[0.3].correct, distance > 0.3 + 1e-6)
    np.testing.assert_array_equal(outcomes[100.0].correct, np.isinf(distance))
    for outcome in outcomes.values():
        np.testing.assert_array_equal(outcome.worst_correct, outcome.correct)


SURVIVORS = [
    ("pgd", {"steps": 25}),
    ("pgd", {"steps": 12, "restarts": 3}),
    ("pgd", {"steps": 4, "random_start": False}),
    ("pgd_l2", {"steps": 12, "restarts": 2}),
    ("fgsm", {}),
    ("noise", {}),
    ("noise", {"draws": 4}),
    ("multi_targeted", {"steps": 6}),
    ("apgd", {"steps": 6, "restarts": 2}),
    ("apgd_t", {"steps": 5}),
    ("lbfgs", {"search_steps": 4, "steps": 8}),
    ("carlini_linf", {"rounds": 3, "steps": 10}),
]


@pytest.fixture(scope="module")
def in_full(target, split):
    """(place in SURVIVORS) -> that attack on all."""

    def attack(place):
        name, settings = SURVIVORS[place]
        return _attack(target, split, name, settings=settings, batch_size=20)

    return functools.cache(attack)


@pytest.mark.parametrize(
    "place", range(len(SURVIVORS)), ids=[name for name, _ in SURVIVORS]
)
@pytest.mark.parametrize("left", ["all", "some"])
def test_the_same_survive_as_in_full(target, split, in_full, place, left):
    survivors = np.ones(COUNT, bool)
    if left == "some":
        survivors[::2] = False
    whole, (name, settings) = in_full(place), SURVIVORS[place]
    how = {"settings": settings, "batch_size": 20}
    short = _attack(target, split, name, survivors=survivors, **how)
    expected = whole.worst_correct & survivors
    np.testing.assert_array_equal(short.worst_correct, expected)
    np.testing.assert_array_equal(short.correct, expected)
    np.testing.assert_array_equal(short.natural, whole.natural)
    # Who was not attacked is left in peace.
    right = short.natural == split.labels
    spared = ~(survivors & right)
    np.testing.assert_array_equal(short.images[spared], split.images[spared])
    assert (short.backward_passes[spared] == 0).all()
    assert (short.forward_passes[spared] == 0).all()
    assert np.isnan(short.distance[right & ~survivors]).all()
    assert (short.distance[~right] == 0).all()
    # What is fooled is shown: an image within epsilon, with a wrong prediction.
    lost = survivors & right & ~short.worst_correct
    assert (short.attacked[lost] != split.labels[lost]).all()
    norm = ATTACKS[name].norm
    assert (short.distance[lost] <= EPSILON[norm] + 1e-6).all()
    change = (short.images - split.images).reshape(COUNT, -1)
    length = np.linalg.norm(change, np.inf if norm == "linf" else 2, axis=-1)
    np.testing.assert_allclose(short.distance[lost], length[lost], atol=1e-6)
    if ATTACKS[name].kind != MINIMUM_NORM and name != "noise":
        assert lost.any()
        assert short.backward_passes.sum() < whole.backward_passes.sum()


def test_what_is_nearest_of_all_rounds_is_kept():
    """At 0.2, then at 0.4, then nothing: within 0.1 there is none."""
    split = Split(np.full((COUNT, 4, 4, 1), 0.25, np.float32), np.zeros(COUNT, int))

    def brighter(images):
        beyond = images.mean(axis=(1, 2, 3)) - 0.35
        return jnp.stack([-beyond, beyond], axis=-1)

    def function(classifier, keys, images, labels, *, number=0, start=None):
        distance = jnp.where(number == 0, 0.2, jnp.where(number == 1, 0.4, jnp.inf))
        found = jnp.broadcast_to(number < 2, labels.shape)
        inwards = jnp.where(images > 0.5, -1.0, 1.0)
        images = images + jnp.where(number < 2, distance * inwards, 0.0)
        looks = jnp.ones_like(labels)
        return AttackResult(
            images, found, 0.0 * labels, jnp.broadcast_to(distance, labels.shape),
            images, found, looks, looks, ~found,
        )  # fmt: skip

    entry = ATTACKS["fab"]._replace(
        rounds=lambda *_: [Round({}, {"number": i}, resume=True) for i in range(3)]
    )
    outcome = examples.attack(
        Target(lambda _: brighter, {}),
        Adversary(function, entry, {"epsilon": 0.1}),
        split,
        seed=0,
        batch_size=40,
        devices=jax.devices()[:1],
        survivors=np.ones(COUNT, bool),
    )
    right = outcome.natural == split.labels
    np.testing.assert_array_equal(outcome.worst_correct, right)
    np.testing.assert_allclose(outcome.distance, np.where(right, 0.2, 0.0))
    moved = np.abs(outcome.images - split.images)[right]
    np.testing.assert_allclose(moved, 0.2, atol=1e-6)
    assert (outcome.backward_passes == 3 * right).all()
    assert (outcome.forward_passes == 6 * right).all()


_STRAYS = {
    "epsilon": ("noise", 0.3, r"the attack noise moves example 0 by 0.3\d* in "),
    "box": (
        "noise",
        2.0,
        r"noise gives images with values outside \[0, 1\], the first",
    ),
    "nan": ("noise", np.nan, r"noise gives images with values outside \[0, 1\], the f"),
    "distance": (
        "fmn",
        0.3,
        r"moves example 0 by 0.3\d* in linf, the distance that it",
    ),
    "pixels": ("carlini_l0", 0.3, r"moves example 0 by 16 in l0, the distance that it"),
}


@pytest.mark.parametrize("case", _STRAYS)
@pytest.mark.parametrize("worst_alone", [False, True])
@pytest.mark.parametrize("survivors", [False, True])
def test_an_attack_is_held_to_its_ball(target, split, case, worst_alone, survivors):
    """One's own attack is not believed: what leaves the ball is no robust accuracy."""
    name, change, said = _STRAYS[case]
    noise = _adversary("noise", draws=1)
    split = Split(np.full_like(split.images, 0.4), split.labels)

    def stray(classifier, keys, images, labels, **how):
        result = noise.function(classifier, keys, images, labels, **how)
        moved = {"worst_images": images + change, "worst_success": labels >= 0}
        if not worst_alone:
            moved["images"] = images + change
        return result._replace(**moved, distance=jnp.full(labels.shape, 0.01))

    adversary = Adversary(stray, ATTACKS[name], noise.settings)
    how = {"seed": 0, "batch_size": 40, "devices": jax.devices()[:1]}
    if survivors:
        how |= {"survivors": np.ones(COUNT, bool), "natural": split.labels}
        adversary = adversary._replace(
            entry=adversary.entry._replace(rounds=lambda *_: [Round()])
        )
    with pytest.raises(InputError, match=said):
        examples.attack(target, adversary, split, **how)


@pytest.mark.parametrize("name", ["apgd", "apgd_t", "fab_t", "square"])
def test_where_nobody_is_left_an_attack_ends_at_once(target, split, name, monkeypatch):
    natural = _attack(target, split, "noise", settings={}).natural
    monkeypatch.delattr(Mapped, "_one_batch")
    none = np.zeros(COUNT, bool)
    counts = []
    outcome = _attack(
        target, split, name, settings={}, survivors=none, natural=natural,
        progress=counts.append,
    )  # fmt: skip
    assert not outcome.worst_correct.any()
    assert not outcome.backward_passes.any() and not outcome.forward_passes.any()
    assert sum(counts) == COUNT


def test_passes_are_those_that_an_example_cost(target, split):
    """A start and three rounds of at most ten steps, and a look at the end of each of
    the four; fooled, none more."""
    survivors = np.ones(COUNT, bool)
    outcome = _attack(target, split, settings={"steps": 25}, survivors=survivors)
    right = outcome.natural == split.labels
    assert set(outcome.backward_passes[~right]) == {0}
    assert set(outcome.backward_passes[outcome.correct]) == {25}
    assert set(outcome.forward_passes[outcome.correct]) == {8}
    assert set(outcome.backward_passes) <= {0, 10, 20, 25}


def _rounded(images):
    """Logits that are steps of the images: without a gradient anywhere."""
    return jnp.round(images.reshape(len(images), -1)[:, :CLASSES])


@pytest.mark.parametrize("survivors", [None, np.ones(COUNT, bool)])
def test_a_gradient_of_zero_is_told(split, survivors):
    target = Target(lambda _: _rounded, {})
    labels = np.argmax(np.asarray(_rounded(jnp.asarray(split.images))), axis=-1)
    same = Split(split.images, labels.astype(np.int32))
    outcome = _attack(target, same, survivors=survivors)
    assert outcome.worst_correct.any()
    np.testing.assert_array_equal(outcome.zero_gradient, outcome.worst_correct)
    none = _attack(target, same, "noise", settings={}, survivors=survivors)
    assert not none.zero_gradient.any()  # It looks at none.


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("survivors", [None, np.ones(COUNT, bool)])
def test_logits_that_are_not_finite_are_told(split, value, survivors):
    """At three natural images; none is robust, none is fooled."""
    level = np.sort(split.images.mean(axis=(1, 2, 3)))[2]

    def classifier(images):
        logits = images.reshape(len(images), -1)[:, :CLASSES]
        bad = images.mean(axis=(1, 2, 3))[:, None] <= level + 1e-6
        return jnp.where(bad, value, logits)

    with pytest.raises(InputError, match=r"not finite for 3 of 110 images"):
        _attack(Target(lambda _: classifier, {}), split, survivors=survivors)


def test_logits_that_an_attack_breaks_are_told(split):
    """Finite at every natural image, not at 1."""

    def classifier(images):
        flat = images.reshape(len(images), -1)
        return jnp.where(flat[:, :1] >= 1, jnp.inf, 1.0) * flat[:, :CLASSES]

    with pytest.raises(InputError, match=r"not finite for \d+ of 110 attacked images"):
        _attack(
            Target(lambda _: classifier, {}),
            split,
            settings={"epsilon": 0.5, "step_size": 0.5, "steps": 2},
        )


def test_one_program_serves_every_batch_and_call(split):
    """The network is traced as often for three batches as for one, and then no more."""
    traced = []

    def classifier(images):
        traced.append(images.shape)
        return images.reshape(len(images), -1)[:, :CLASSES]

    target = Target(lambda _: classifier, {})
    _attack(target, examples.first(split, 40))
    once = len(traced)
    _attack(target, split)
    assert 0 < once == len(traced)


@pytest.mark.parametrize("survivors", [None, np.ones(COUNT, bool)])
def test_progress_counts_every_example_once(target, split, survivors):
    counts = []
    _attack(target, split, survivors=survivors, progress=counts.append)
    assert sum(counts) == COUNT
    if survivors is None:
        assert counts == [40, 40, 30]
    else:
        assert len(counts) > 5  # A stop is heard after every batch.


@pytest.mark.parametrize("survivors", [None, np.ones(COUNT, bool)])
@pytest.mark.parametrize("stop", range(1, 9))
def test_an_interrupted_attack_goes_on_where_it_was(
    target, split, tmp_path, survivors, stop
):
    """Stopped after so many batches, none of these is computed again."""
    computed = []

    def attack(finished, stop=None):
        done = []

        def progress(count):
            done.append(count)
            if len(done) == stop:
                raise KeyboardInterrupt

        before = Mapped._one_batch

        def counted(self, *arguments):
            computed.append(1)
            return before(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Mapped, "_one_batch", counted)
            return _attack(
                target,
                split,
                batch_size=40,
                settings={"steps": 12, "restarts": 2},
                survivors=survivors,
                finished=finished,
                progress=progress,
            )

    def parts():
        return Finished(tmp_path, "pgd", {"a": 1})

    expected = attack(None)
    whole = len(computed)
    computed.clear()
    try:
        attack(parts(), stop)
    except KeyboardInterrupt:
        found = attack(parts())
        # The predictions of the natural images, three batches, are made again.
        assert len(computed) == whole + 3
    else:
        assert survivors is None
        found = attack(parts())
        assert len(computed) == whole + 3
    for name in expected._fields:
        if name != "seconds":
            np.testing.assert_array_equal(
                getattr(found, name), getattr(expected, name), err_msg=name
            )


def test_first_examples(split):
    assert len(examples.first(split, 5).labels) == 5
    assert len(examples.first(split, 0).labels) == COUNT


def test_devices_must_divide_the_batch(target, split):
    with pytest.raises(InputError, match=r"evaluate.batch_size=30"):
        _attack(target, split, devices=4, batch_size=30)


@pytest.mark.parametrize(("devices", "share"), [(1, 110), (4, 28)])
def test_a_batch_is_no_larger_than_the_examples(split, devices, share):
    shares = []

    def function(_, batch):
        shares.append(len(batch.labels))
        return batch.labels

    how = {"batch_size": 1_000_000, "devices": jax.devices()[:devices]}
    np.testing.assert_array_equal(map_split(function, {}, split, **how), split.labels)
    assert set(shares) == {share}


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_any_tree_is_mapped(devices):
    """Trees in, trees out, of any number of examples; filled up, and cut again."""
    split = Split(np.arange(10.0, dtype=np.float32).reshape(10, 1, 1, 1), np.arange(10))

    def function(shared, batch):
        return {"twice": shared["factor"] * batch.images}, (batch.indices, batch.labels)

    found, (indices, labels) = map_split(
        function,
        {"factor": np.float32(2)},
        split,
        batch_size=4,
        devices=jax.devices()[:devices],
    )
    np.testing.assert_array_equal(found["twice"], 2 * split.images)
    np.testing.assert_array_equal(indices, np.arange(10))
    np.testing.assert_array_equal(labels, np.arange(10))


@pytest.mark.parametrize("survivors", [True, False])
@pytest.mark.parametrize("claimed", [True, False])
def test_an_attack_is_held_to_what_the_network_says(target, split, claimed, survivors):
    """It may not call fooled what is not, nor the other way round."""

    def attack(classifier, keys, images, labels, *, epsilon):
        away = 0.0 if claimed else epsilon
        result = attacks.pgd(
            classifier, keys, images, labels, objective=losses.margin, epsilon=away,
            step_size=away, steps=5,
        )  # fmt: skip
        claims = jnp.full(labels.shape, claimed)
        return result._replace(success=claims, worst_success=claims)

    entry = attacks.Attack(
        attack, "own", "linf", attacks.FIXED_EPSILON,
        {"epsilon": attacks.ATTACKS["pgd"].settings["epsilon"]},
    )  # fmt: skip
    settings = {"epsilon": 0.5}
    adversary = Adversary(functools.partial(attack, **settings), entry, settings)
    said = "fooled" if claimed else "not fooled"
    with pytest.raises(
        InputError, match=rf"attack own says that example \d+ is {said}"
    ):
        examples.attack(
            target, adversary, split, seed=0, batch_size=20,
            devices=jax.devices()[:1],
            survivors=np.ones(len(split.labels), bool) if survivors else None,
        )  # fmt: skip
