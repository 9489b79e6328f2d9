"""Networks to start from: what `Trained.save` writes, and `advloss.load` finds."""

import dataclasses
import json
import sys
import types
import warnings

import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors.numpy

import advloss
from advloss import attacks, losses, networks
from advloss import config as configs
from advloss.errors import InputError
from advloss.evaluation import loaded
from advloss.runtime import tensors
from advloss.training.trained import FILES

_IMAGES = np.linspace(0, 1, 8 * 6 * 6, dtype=np.float32).reshape(8, 6, 6, 1)
_LABELS = np.arange(8) % 3
_ENDS = np.isin(np.arange(36) % 4, (0, 3))


@pytest.fixture(scope="module")
def small():
    """A network of the library, hardly trained."""
    return _fit("mlp", loss="lmcl")


def _fit(module, **changes):
    changes = {"steps": 2, "batch_size": 4, "epsilon": 0.05, **changes}
    devices = jax.devices()[:1]
    return advloss.fit(
        module, _IMAGES, _LABELS, progress=False, devices=devices, **changes
    )


class Own(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


def test_what_is_saved_is_loaded_to_the_bit(small, tmp_path):
    small.save(tmp_path / "net")
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == sorted(FILES)
    again = advloss.load(tmp_path / "net")
    jax.tree.map(np.testing.assert_array_equal, again.variables, small.variables)
    np.testing.assert_array_equal(again.classifier(_IMAGES), small.classifier(_IMAGES))
    assert (again.config, again.module) == (small.config, "mlp")
    assert again.image_shape == (6, 6, 1)
    assert again.facts == {"data": "8 images that were given to advloss.fit"}


class mlp(Own):
    """One's own, of a name that the library has."""


def test_a_module_of_a_name_of_the_library_is_one_s_own(tmp_path):
    trained = _fit(mlp())
    assert trained.module == f"{__name__}.mlp"
    trained.save(tmp_path / "net")
    card = (tmp_path / "net" / "README.md").read_text(encoding="utf-8")
    assert "a dense network" not in card and 'load("FOLDER", module)' in card
    with pytest.raises(InputError, match=r"holds a .*mlp of one's own: give it as"):
        advloss.load(tmp_path / "net")
    again = advloss.load(tmp_path / "net", mlp())
    np.testing.assert_array_equal(
        again.classifier(_IMAGES), trained.classifier(_IMAGES)
    )


@pytest.mark.parametrize("part", ["activation", "class"])
def test_a_part_that_was_entered_is_another_elsewhere(tmp_path, monkeypatch, part):
    """The name is the same, and the shapes are: it computes something else."""

    class Signed(networks.NETWORKS["mlp"].module):
        @nn.compact
        def __call__(self, images, *, train=False, axis=None):
            found = super().__call__(images, train=train, axis=axis)
            return {**found, "fc3": -found["fc3"]}

    if part == "activation":
        registry, entry = networks.ACTIVATIONS, networks.ACTIVATIONS["relu"]
        changed = entry._replace(function=lambda x: 1.0 - jax.nn.relu(x))
        named = {"config": {"model.activation": "mine"}}
    else:
        registry, entry = networks.NETWORKS, networks.NETWORKS["mlp"]
        changed, named = entry._replace(module=Signed), {}
    monkeypatch.setitem(registry, "mine", entry)
    _fit("mine" if part == "class" else "mlp", **named).save(tmp_path / "net")
    advloss.load(tmp_path / "net")
    monkeypatch.setitem(registry, "mine", changed)
    with pytest.raises(InputError, match=r"entered or imported here, computes som"):
        advloss.load(tmp_path / "net")


@pytest.fixture
def entered(monkeypatch):
    """() enters an attack and a loss with a key of its own, and () takes them away."""
    pgd, mine = attacks.ATTACKS["pgd"], losses.LOSSES["hinge"]
    added = {"strange": mine.settings["margin"]}

    def enter():
        monkeypatch.setitem(attacks.ATTACKS, "mine", pgd)
        monkeypatch.setitem(losses.LOSSES, "mine", mine._replace(settings=added))

    return enter, monkeypatch.undo


def test_what_was_entered_beside_it_need_not_be_entered_again(tmp_path, entered):
    enter, leave = entered
    enter()
    trained = _fit("mlp")
    trained.save(tmp_path / "net")
    leave()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = advloss.load(tmp_path / "net")
    np.testing.assert_array_equal(
        again.classifier(_IMAGES), trained.classifier(_IMAGES)
    )
    again.save(tmp_path / "again")
    enter()
    with pytest.warns(UserWarning, match="or before something was entered: .* default"):
        advloss.load(tmp_path / "again")


@pytest.mark.parametrize("named", [{"attack": "mine"}, {"loss": "mine"}])
def test_what_it_was_trained_with_must_be_entered(
    tmp_path, entered, monkeypatch, named
):
    """To delete its config, as a run's, would lose the network."""
    enter, leave = entered
    enter()
    if "loss" in named:
        hinge = losses.LOSSES["hinge"]
        monkeypatch.setitem(losses.LOSSES, "mine", hinge)
    _fit("mlp", **named).save(tmp_path / "net")
    leave()
    with pytest.raises(
        InputError, match=r"names what is not entered here.*mine"
    ) as told:
        advloss.load(tmp_path / "net")
    assert str(told.value).endswith("where it is damaged, save the network again")


def test_a_save_without_its_config_is_said_to_be_one(small, tmp_path):
    small.save(tmp_path / "net")
    (tmp_path / "net" / "config.json").unlink()
    with pytest.raises(InputError, match=r"net was not saved whole: config.json is mi"):
        advloss.load(tmp_path / "net")


def test_a_source_of_one_s_own_is_named_in_the_facts_of_a_run():
    config = configs.default()
    for source, said in (("my_data:load", "my_data:load"), ("tfds", "tfds mnist")):
        config.data.source = source
        assert loaded._data(config) == said


def test_others_can_read_the_weights(small, tmp_path):
    small.save(tmp_path / "net")
    arrays = safetensors.numpy.load_file(tmp_path / "net" / "model.safetensors")
    leaves = jax.tree_util.tree_leaves_with_path(small.variables)
    found = {"/".join(key.key for key in path): leaf for path, leaf in leaves}
    assert arrays.keys() == found.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, found[name])


def test_the_oldest_safetensors_that_is_allowed_is_enough(small, tmp_path, monkeypatch):
    """Of what its files have these are used; `get_tensors` is younger."""

    class File:
        def __init__(self, *given, **settings):
            self._file = opened(*given, **settings)

        def __enter__(self):
            file = self._file.__enter__()
            names = ("keys", "metadata", "get_tensor", "get_slice")
            return types.SimpleNamespace(
                **{name: getattr(file, name) for name in names}
            )

        def __exit__(self, *given):
            return self._file.__exit__(*given)

    opened = safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", File)
    small.save(tmp_path / "net")
    again = advloss.load(tmp_path / "net")
    jax.tree.map(np.testing.assert_array_equal, again.variables, small.variables)


def test_the_same_network_has_the_same_bytes(small, tmp_path):
    for name in ("one", "other"):
        small.save(tmp_path / name / "net")
    for file in FILES:
        one, other = (tmp_path / name / "net" / file for name in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_half_of_the_bytes_are_near(small, tmp_path):
    """float16 has 11 bits: every weight is within 2^-11 of itself."""
    for precision in ("float32", "float16"):
        small.save(tmp_path / precision, precision=precision)
    sizes = [
        sum(array.nbytes for array in safetensors.numpy.load_file(path).values())
        for path in sorted(tmp_path.glob("*/model.safetensors"))
    ]
    assert 2 * sizes[0] == sizes[1]
    again = advloss.load(tmp_path / "float16")
    for one, other in zip(
        jax.tree.leaves(again.variables), jax.tree.leaves(small.variables), strict=True
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=2**-11, atol=2**-25)
    near, exact = again.classifier(_IMAGES), small.classifier(_IMAGES)
    np.testing.assert_allclose(near, exact, rtol=0, atol=0.005)  # Cosines.
    assert (
        "parameters, rounded to float16 |"
        in (tmp_path / "float16/README.md").read_text()
    )
    again.save(tmp_path / "again", precision="float16")  # Nothing more is lost.
    twice = advloss.load(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, again.variables, twice.variables)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda kernel: kernel + 1e5, r"params/Dense_0/kernel goes to 1000.* 65504"),
        # Large ones of either sign that nearly cancel.
        (
            lambda kernel: np.where(_ENDS[:, None], 4001, -4000) + 0 * kernel,
            "it changes a logit by",
        ),
    ],
)
def test_halves_that_change_the_network_are_refused(tmp_path, weights, message):
    own = _fit(Own())
    kernel = np.asarray(own.variables["params"]["Dense_0"]["kernel"])
    made = weights(kernel).astype(np.float32)
    bias = np.linspace(0, 1, 3, dtype=np.float32)
    variables = {"params": {"Dense_0": {"kernel": made, "bias": bias}}}
    classifier = lambda images: own.network.apply(variables, images)[0]  # noqa: E731
    large = dataclasses.replace(own, variables=variables, classifier=classifier)
    with pytest.raises(InputError, match=message):
        large.save(tmp_path / "net", precision="float16")
    assert not (tmp_path / "net").exists()
    large.save(tmp_path / "net")
    advloss.load(tmp_path / "net", Own())


def test_the_card_says_what_is_known(small, tmp_path):
    facts = {"PGD-100, epsilon 0.3": "93.1 %", "a|b*": "x\ny", "seeds": np.float32(3)}
    small.save(tmp_path / "softmax", facts=facts)
    card = (tmp_path / "softmax" / "README.md").read_text(encoding="utf-8")
    head, _, rest = card.removeprefix("---\n").partition("---\n")
    assert "library_name: advloss" in head
    for line in (
        "# softmax", "| images | 6 x 6 x 1, in \\[0, 1\\] |", "| classes | 3 |",
        "| loss | LMCL (s=10, m=0.3) |", "| trained against | PGD-5 ε=0.05 |",
        "| PGD-100, epsilon 0.3 | 93.1 % |", "| a\\|b\\* | x y |", "| seeds | 3.0 |",
        "loss.name=lmcl", "train.attack.epsilon=0.05", "model.name=mlp",
        'trained = advloss.load("FOLDER")',
        "| data | 8 images that were given to advloss.fit |",
    ):  # fmt: skip
        assert line in rest.splitlines(), line
    again = advloss.load(tmp_path / "softmax")
    assert again.facts["PGD-100, epsilon 0.3"] == "93.1 %"
    again.save(tmp_path / "softmax", facts={"verdict": "it can be trusted"})
    card = (tmp_path / "softmax" / "README.md").read_text(encoding="utf-8")
    assert "| PGD-100, epsilon 0.3 | 93.1 % |\n" in card
    assert "| verdict | it can be trusted |\n" in card


def test_a_save_that_is_cut_short_has_no_card_of_another(small, tmp_path, monkeypatch):
    small.save(tmp_path / "net", facts={"PGD-100": "93.1 %"})

    def full(*given):
        raise OSError("the disk is full")

    monkeypatch.setattr(tensors, "write", full)
    with pytest.raises(OSError, match="the disk is full"):
        small.save(tmp_path / "net")
    assert not (tmp_path / "net" / "README.md").exists()


def test_the_card_of_a_module_of_one_s_own_asks_for_it(tmp_path):
    _fit(Own()).save(tmp_path / "net")
    card = (tmp_path / "net" / "README.md").read_text(encoding="utf-8")
    assert 'advloss.load("FOLDER", module)\n' in card
    assert "| network | Own, 111 parameters |\n" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "bfloat16"}, "precision='bfloat16' is not .* float32, float16"),
        ({"precision": None}, "precision=None is not valid: use one of float32"),
        (
            {"facts": "good"},
            "facts='good' is not valid: use a dict of texts or numbers",
        ),
        ({"facts": {"a": [1]}}, r"facts=\{'a': \[1\]\} is not valid: use a dict"),
        ({"facts": {"a": 10**5000}}, r"facts=.* is not valid: use a dict"),
        ({"facts": {1: "a"}}, r"facts=\{1: 'a'\} is not valid: use a dict"),
    ],
)
def test_what_can_t_be_saved_leaves_nothing(small, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        small.save(tmp_path / "net", **changes)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.7, 0.999])
def test_a_changed_byte_or_a_lost_end_is_refused(small, tmp_path, file, share):
    small.save(tmp_path / "net")
    path = tmp_path / "net" / file
    content = path.read_bytes()
    place = int(share * len(content))
    changed = bytearray(content)
    changed[place] ^= 1
    for damaged in (bytes(changed), content[:place]):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as told:
            advloss.load(tmp_path / "net")
        assert "\n" not in str(told.value)
    path.unlink()
    with pytest.raises(InputError, match="net"):
        advloss.load(tmp_path / "net")


def _foreign(**metadata):
    return safetensors.numpy.save({"w": np.zeros(3, np.float32)}, metadata or None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_foreign(), "was not written by advloss"),
        (_foreign(format="pt"), "was not written by advloss"),
        (_foreign(advloss="{"), "is damaged"),
        (_foreign(advloss="[1]"), "is damaged: .* no object"),
        (_foreign(advloss='{"about": {}, "digest": ""}'), "does not say what it holds"),
        (b"\x80\x02.", "is missing or damaged"),
        (b"\xff" * 64, "is missing or damaged"),
    ],
)
def test_foreign_files_are_refused(small, tmp_path, content, message):
    small.save(tmp_path / "net")
    (tmp_path / "net" / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message):
        advloss.load(tmp_path / "net")
    with pytest.raises(InputError, match=message):  # It may be somebody's.
        small.save(tmp_path / "net")


def test_what_is_said_of_the_arrays_is_held_by_the_digest(small, tmp_path):
    """Of another shape, type or name they would be other numbers."""
    small.save(tmp_path / "net")
    path = tmp_path / "net" / "model.safetensors"
    with safetensors.safe_open(path, framework="np") as content:
        said = json.loads(content.metadata()["advloss"])
    arrays = safetensors.numpy.load_file(path)
    for key, value in (
        ("image_shape", [6, 3, 2]), ("module", "table1"),
        ("dtypes", {name: "int8" for name in arrays}),
    ):  # fmt: skip
        other = {**said, "about": {**said["about"], key: value}}
        metadata = {"advloss": json.dumps(other)}
        path.write_bytes(safetensors.numpy.save(arrays, metadata))
        with pytest.raises(InputError, match="was not saved whole, or was changed"):
            advloss.load(tmp_path / "net")


def test_a_run_is_loaded_and_saved_to_be_given_away(trained, digits_dir, tmp_path):
    run, found = advloss.load_run(trained), advloss.load(trained)
    images = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 8, 8, 1)
    np.testing.assert_array_equal(found.classifier(images), run.classifier(images))
    assert found.image_shape == (8, 8, 1)
    assert found.facts["data"] == "idx"
    assert found.facts["updates"] == "60"
    natural = found.facts["natural accuracy"]
    assert natural.endswith("] of 110 test images")
    assert {"PGD-10 ε=0.1", "worst linf ε=0.1"} <= found.facts.keys()
    found.save(tmp_path / "net", precision="float16")
    again = advloss.load(tmp_path / "net")
    np.testing.assert_allclose(
        again.classifier(images), run.classifier(images), rtol=0, atol=0.005
    )
    card = (tmp_path / "net" / "README.md").read_text(encoding="utf-8")
    assert f"| natural accuracy | {natural}".replace("[", "\\[") in card.replace(
        "\\]", "]"
    )
    assert str(digits_dir) not in card
    with pytest.raises(InputError, match=r"module='table1' is not .* the network mlp"):
        advloss.load(trained, "table1")


@pytest.fixture
def hub(monkeypatch):
    """The hub's client as it were; what it is asked for is kept."""
    made = types.SimpleNamespace(asked=[], folder=None)

    def snapshot_download(repository, *, revision, allow_patterns):
        made.asked.append((repository, revision, allow_patterns))
        if made.folder is None:
            raise RuntimeError("404\nNot Found")
        return str(made.folder)

    client = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return made


def test_a_network_on_the_hub(small, tmp_path, hub):
    small.save(tmp_path / "net")
    hub.folder = tmp_path / "net"
    for address, revision in (
        ("hf://owner/a.name-1", None),
        ("hf://owner/a.name-1@v1.0", "v1.0"),
    ):
        found = advloss.load(address)
        np.testing.assert_array_equal(
            found.classifier(_IMAGES), small.classifier(_IMAGES)
        )
        assert hub.asked[-1] == ("owner/a.name-1", revision, [*FILES])
    hub.folder = None
    with pytest.raises(InputError, match="hf://owner/name can't be had: 404 Not Found"):
        advloss.load("hf://owner/name")
    hub.folder = tmp_path
    with pytest.raises(InputError, match="holds no network that Trained"):
        advloss.load("hf://owner/name")


@pytest.mark.parametrize(
    "address", ["hf://", "hf://owner", "hf://a/b/c", "hf://a/b@", "hf://a b/c"]
)
def test_an_address_of_no_repository_is_refused(address, hub):
    with pytest.raises(InputError, match="is not valid: use hf://owner/name"):
        advloss.load(address)
    assert not hub.asked


def test_the_hub_s_client_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'advloss\[hub\]'"):
        advloss.load("hf://owner/name")


def test_networks_of_the_package_have_names(small, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    message = r"nets is not there: .*, or a network of the package \(mnist-lmcl, "
    with pytest.raises(InputError, match=message):
        advloss.load("nets")
    monkeypatch.setattr(loaded, "PRETRAINED", tmp_path / "pretrained")
    for name in ("softmax", "lmcl"):
        small.save(tmp_path / "pretrained" / name)
    found = advloss.load("lmcl")
    np.testing.assert_array_equal(found.classifier(_IMAGES), small.classifier(_IMAGES))
    for name in ("nets", "./lmcl", here / "softmax", "pretrained/lmcl"):
        with pytest.raises(InputError, match=r"a network of the package \(lmcl, soft"):
            advloss.load(name)
    (here / "lmcl").mkdir()
    with pytest.raises(InputError, match=r"lmcl is a folder, and a network of the pac"):
        advloss.load("lmcl")
    small.save("lmcl")
    assert advloss.load("./lmcl").module == "mlp"
