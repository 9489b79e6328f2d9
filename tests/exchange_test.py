"""The forms of others: RobustBench's of a model, AttackBench's of an attack.

Runs are made by hand (made_runs.py); their test images are 20 of 8x8 pixels.
"""

import hashlib
import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from made_runs import make_run, measure

from advloss import config as configs
from advloss import report
from advloss.attacks import ATTACKS, for_classes
from advloss.cli import export as command
from advloss.cli import flags
from advloss.errors import InputError
from advloss.evaluation import exchange
from advloss.evaluation.exchange import ModelInfo, robustbench
from advloss.evaluation.optimality import optimality
from advloss.runtime import files
from advloss.training import workdir as workdirs
from advloss.types import Dataset, Split

SUITE = ("apgd", "apgd_t", "fab_t", "square")
INF = math.inf
LABELS = np.arange(20) % 10
IMAGES = (np.arange(20 * 64).reshape(20, 8, 8, 1) / (20 * 64)).astype(np.float32)
DIGEST = files.digest((IMAGES, LABELS))
KEYS = exchange.hashes(IMAGES)


@pytest.fixture(autouse=True)
def images(monkeypatch):
    """What every config's data are."""
    split = Split(IMAGES, LABELS)
    monkeypatch.setattr(workdirs, "load_data", lambda _: Dataset(split, split, 10))


def _run(folder, attacks=("pgd",), name="lmcl", **more):
    """A run that was attacked on these images; every attack finds them at 0.1."""
    workdir = make_run(folder, name, attacks=())
    for i, attack in enumerate(attacks):
        settings = configs.default().evaluate[attack].to_dict()
        nearer = {"images": np.abs(IMAGES - 0.1), "data": DIGEST, **more}
        measure(workdir, attack, settings, 10 + i, **nearer)
    return workdir


def _said(text):
    return " ".join(text.split())


# By hand, of three images at best 0.1, 0.4 and 0.3: the areas between the lines are
# the means of 0.4 - d over the images that are right.
@pytest.mark.parametrize(
    ("distances", "best", "expected"),
    [
        ([0.1, 0.4, 0.3], [0.1, 0.4, 0.3], 1.0),
        ([INF, INF, INF], [0.1, 0.4, 0.3], 0.0),
        ([0.2, 0.4, INF], [0.1, 0.4, 0.3], 0.5),
        # One that is classified wrongly changes nothing.
        ([0.2, 0.4, INF, 0.0], [0.1, 0.4, 0.3, 0.0], 0.5),
        # Nor one that nobody fools.
        ([0.2, 0.4, INF, INF], [0.1, 0.4, 0.3, INF], 0.5),
        # Nearer than the best known.
        ([0.0, 0.4, 0.3], [0.1, 0.4, 0.3], 1.25),
        ([0.3, 0.3], [0.3, 0.3], math.nan),
        ([0.0, INF], [0.0, INF], math.nan),
    ],
)
def test_optimality_by_hand(distances, best, expected):
    assert optimality(distances, best) == pytest.approx(expected, nan_ok=True)


def test_optimality_of_joined_lines_by_hand():
    """As AttackBench's script: of 4 images, one wrong, best at 0.1, 0.2 and 0.4.

    Lines through (0, 0.75), (0.1, 0.5), (0.2, 0.25), (0.4, 0): area 0.125. The attack's
    through (0, 0.75), (0.2, 0.5), (0.4, 0): 0.175. Under the clean line lies 0.3.
    """
    best = [0.0, 0.1, 0.2, 0.4]
    value = optimality([0.0, 0.2, 0.4, INF], best, joined=True)
    assert value == pytest.approx((0.3 - 0.175) / (0.3 - 0.125))
    assert optimality(best, best, joined=True) == 1
    nothing = optimality([0.0, INF, INF, INF], best, joined=True)
    assert nothing == pytest.approx((0.3 - 0.15) / (0.3 - 0.125))


def test_optimality_agrees_with_the_areas_of_the_curves():
    rng = np.random.default_rng(0)
    best = np.where(rng.random(50) < 0.1, 0, rng.random(50))
    own = np.where(best > 0, best + rng.exponential(0.2, 50), 0)
    grid = np.linspace(0, best.max(), 200_001)[:-1] + best.max() / 400_000
    line = np.mean(best > 0)
    areas = [np.mean([line - np.mean(d > e) for e in grid[::50]]) for d in (own, best)]
    assert optimality(own, best) == pytest.approx(areas[0] / areas[1], abs=1e-3)
    many = np.repeat(own, 40), np.repeat(best, 40)  # Lines come nearer to steps.
    assert optimality(own, best, joined=True) < 1
    assert optimality(*many) == pytest.approx(optimality(own, best))


@pytest.mark.parametrize(
    ("distances", "best", "said"),
    [
        ([0.1], [0.1, 0.2], r"distances=\(1,\) and best=\(2,\)"),
        ([-0.1], [0.1], r"distances of shape \(1,\) is not valid"),
        ([0.1], [math.nan], r"best of shape \(1,\) is not valid"),
        ([], [], "distances of shape .* one distance >= 0"),
        ([[0.1]], [0.1], "distances of shape"),
        (["a"], [0.1], r"distances are <U1: use numbers, one for each image"),
        ([0.1], {"a": 0.1}, "best are object: use numbers"),
        (np.ma.masked_array([0.1], [True]), [0.1], "1 values of distances are masked"),
    ],
)
def test_senseless_distances_are_one_line(distances, best, said):
    with pytest.raises(InputError, match=said):
        optimality(distances, best)


def test_distances_of_any_floats_are_numbers():
    halves = jnp.array([0.25, 0.5], jnp.bfloat16)
    assert optimality(halves, [0.25, 0.5]) == 1


def test_an_image_is_hashed_channels_first():
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 12
    channels_first = image.transpose(2, 0, 1).tobytes()
    assert exchange.hashes(image[None]) == [hashlib.sha512(channels_first).hexdigest()]


INFO = ModelInfo(
    name="A paper",
    dataset="mnist",
    eps=8 / 255,
    clean_acc=98.46,
    reported=90.1,
    autoattack_acc=88.5,
    external=88.25,
    architecture="a network",
    authors="A. B., C. D.",
    venue="ICLR 2020",
    link="https://example.org",
    footnote="One.",
    additional_data=True,
    number_forward_passes=2,
    others={"unreliable": False, "more": [1, 2]},
)


@pytest.mark.parametrize(
    "info",
    [
        INFO,
        INFO._replace(eps=0.3, autoattack_acc=None, external=None, others={}),
        INFO._replace(eps=None, autoattack_acc=None, corruptions_acc=84.1),
        ModelInfo("x", "mnist", 0.1234567, 50.0),
    ],
)
def test_a_robustbench_file_makes_the_round_trip(tmp_path, info):
    path = tmp_path / "x.json"
    exchange.write_robustbench(path, info)
    assert exchange.read_robustbench(path) == info
    content = json.loads(path.read_text())
    for key in ("clean_acc", "reported", "autoattack_acc", "external"):
        value = getattr(info, key)
        assert content.get(key) == (None if value is None else str(value))
    assert ("external" in content) == (info.external is not None)


@pytest.mark.parametrize(
    ("radius", "text"),
    [(0.3, "0.3"), (8 / 255, "8/255"), (0.2, "0.2"), (2.0, "2"), (0.12345, "0.12345")],
)
def test_radii_are_written_as_there(radius, text):
    assert robustbench.radius_text(radius) == text


# As files there are: numbers as text and as numbers, null, no text at all.
GENUINE = (
    '{"name": "n", "dataset": "cifar10", "eps": "8/255", "clean_acc": "94.78", '
    '"reported": "0.0", "autoattack_acc": "0.0", "authors": "", "venue": "N/A"}',
    '{"name": "n", "dataset": "cifar10", "eps": null, "clean_acc": "93.10", '
    '"reported": null, "corruptions_acc": "84.10", "unreliable": false}',
    '{"name": "n", "dataset": "cifar10", "eps": 0.5, "clean_acc": 93.1, '
    '"reported": "", "autoattack_acc": "70", "additional_data": null, "AA": "70"}',
)


@pytest.mark.parametrize("text", GENUINE)
def test_files_of_robustbench_are_read(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    info = exchange.read_robustbench(path)
    assert info.dataset == "cifar10" and info.clean_acc > 90
    assert info.eps in (8 / 255, None, 0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clean_acc": "100.1"}, r"clean_acc='100.1' .*from 0 to 100"),
        ({"clean_acc": "-1"}, r"clean_acc='-1' .*from 0 to 100"),
        ({"clean_acc": "nan"}, r"clean_acc='nan' .*from 0 to 100"),
        ({"clean_acc": ""}, r"clean_acc='' .*from 0 to 100"),
        ({"clean_acc": True}, r"clean_acc=True .*from 0 to 100"),
        ({"clean_acc": None}, "has no clean_acc"),
        ({"autoattack_acc": "88,5"}, r"autoattack_acc='88,5' .*from 0 to 100"),
        ({"external": [1]}, r"external=\[1\] .*from 0 to 100"),
        ({"reported": 1e9}, r"reported=1000000000.0 .*from 0 to 100"),
        ({"eps": "eight"}, r"eps='eight' .*8/255"),
        ({"eps": "8/0"}, r"eps='8/0' .*8/255"),
        ({"eps": "inf"}, r"eps='inf' .*8/255"),
        ({"eps": -0.1}, r"eps=-0.1 .*8/255"),
        ({"eps": 10**400}, r"eps=10+ .*8/255"),
        ({"name": 3}, r"name=3 .*a text"),
        ({"dataset": None}, "has no dataset"),
        ({"additional_data": "no"}, r"additional_data='no' .*true or false"),
        ({"number_forward_passes": 0}, r"number_forward_passes=0 .*from 1"),
        ({"footnote": "a\nb", "authors": {}}, r"authors=\{\} .*a text"),
    ],
)
def test_a_senseless_robustbench_file_is_one_line(tmp_path, changes, said):
    path = tmp_path / "x.json"
    exchange.write_robustbench(path, INFO)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=said) as error:
        exchange.read_robustbench(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b"[1]", "no JSON object"),
        (b'{"name": ', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"{}", "has no name"),
    ],
)
def test_what_is_no_robustbench_file_is_one_line(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        exchange.read_robustbench(path)


def test_a_run_in_robustbenchs_form(tmp_path):
    workdir = _run(tmp_path / "run", ("pgd", "noise"))
    about = report.About(title="T", authors="A. B.", venue="V", link="L")
    text = report.export(workdir, tmp_path / "to", about)
    path = tmp_path / "to" / "model_info" / "mnist" / "Linf" / "lmcl.json"
    info = exchange.read_robustbench(path)
    assert (info.clean_acc, info.reported, info.external) == (95.0, 50.0, 45.0)
    assert info.eps == 0.3 and json.loads(path.read_text())["eps"] == "0.3"
    assert (info.name, info.authors, info.venue, info.link) == ("T", "A. B.", "V", "L")
    assert info.architecture == "the network of Table I"
    assert "first 20 test images" in info.footnote and "pgd, noise" in info.footnote
    assert info.autoattack_acc is None and "autoattack_acc" not in path.read_text()
    (command,) = [line for line in text.splitlines() if "experiments.evaluate" in line]
    assert str(workdir) in command
    assert "--config.evaluate.examples=20" in command
    assert "--config.evaluate.attacks=autoattack" in command
    assert (
        max(len(each) for each in text.splitlines() if str(tmp_path) not in each) < 81
    )


def test_the_command(tmp_path, capsys):
    workdir = _run(tmp_path / "run", ("pgd", "fmn"))
    path = _write_best(tmp_path, "info", [0.05] * 10 + [0.15] * 9 + [0.0])
    words = [
        "--authors=A. B.",
        "--additional_data",
        "--reported=91.5",
        f"--best={path}",
    ]
    given = flags.parse(
        command.FLAGS,
        ["advloss", "export"],
        [f"--workdir={workdir}", f"--to={tmp_path / 'to'}", *words],
        saved_config=command.SAVED_CONFIG,
    )
    command.main(given)
    assert re.search(r"FMN-100 .* [01]\.\d{3}\n", capsys.readouterr().out)
    (path,) = (tmp_path / "to" / "model_info").rglob("*.json")
    info = exchange.read_robustbench(path)
    assert (info.authors, info.additional_data, info.reported) == ("A. B.", True, 91.5)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--config.evaluate.examples=10", r"examples='10' .*config.data alone: an exp"),
        ("--config.seed=1", r"config.seed='1' .*config.data alone"),
        ("--best=", r"--best= is not valid: name files"),
        ("--best=a.json,", r"--best=a.json, is not valid: name files"),
    ],
)
def test_what_would_not_be_heeded_is_refused(tmp_path, word, said):
    words = [f"--workdir={_run(tmp_path / 'run')}", f"--to={tmp_path / 'to'}", word]
    given = flags.parse(command.FLAGS, ["advloss", "export"], words, saved_config=True)
    with pytest.raises(InputError, match=said):
        command.main(given)
    assert not (tmp_path / "to").exists()


def test_autoattack_is_the_whole_suite_with_its_defaults(tmp_path):
    workdir = _run(tmp_path / "run", ("pgd", *SUITE))
    assert "no autoattack_acc" not in report.export(workdir, tmp_path / "to")
    path = tmp_path / "to" / "model_info" / "mnist" / "Linf" / "lmcl.json"
    info = exchange.read_robustbench(path)
    # PGD leaves one image less than the first of the suite.
    assert info.autoattack_acc == 50.0 and info.external == 45.0
    assert info.reported == 50.0


def test_autoattack_of_few_classes_is_that_with_the_margin(tmp_path):
    workdir = tmp_path / "run"
    make_run(workdir, "lmcl", attacks=("pgd",), changes={"data.num_classes": 3})
    labels = np.arange(20) % 3
    for name in SUITE:
        settings = configs.default().evaluate[name].to_dict()
        settings |= for_classes(settings, 3)
        measure(workdir, name, settings, 10, labels, data=DIGEST)
    assert "no autoattack_acc" not in report.export(workdir, tmp_path / "to")


def test_what_is_reported_is_of_an_attack_on_all_images(tmp_path):
    workdir = _run(tmp_path / "run", ("pgd",))
    settings = configs.default().evaluate.apgd_margin.to_dict()
    of_fast = {"suite": "fast", "survivors_only": False, "data": DIGEST}
    measure(workdir, "apgd_margin", settings, 5, after=(), **of_fast)
    report.export(workdir, tmp_path / "to")
    (path,) = (tmp_path / "to").rglob("lmcl.json")
    assert exchange.read_robustbench(path).reported == 50.0


def _without_one(workdir):
    (path,) = workdir.glob("evaluation/square-*.npz")
    path.unlink()


def _with_fewer_steps(workdir):
    _without_one(workdir)
    settings = configs.default().evaluate.square.to_dict() | {"queries": 10}
    measure(workdir, "square", settings, 15, data=DIGEST)


def _in_another_ball(workdir):
    _without_one(workdir)
    settings = configs.default().evaluate.square.to_dict() | {"epsilon": 0.2}
    measure(workdir, "square", settings, 15, data=DIGEST)


@pytest.mark.parametrize("change", [_without_one, _with_fewer_steps, _in_another_ball])
def test_what_is_not_the_whole_suite_is_not_autoattack(tmp_path, change):
    workdir = _run(tmp_path / "run", SUITE)
    change(workdir)
    text = report.export(workdir, tmp_path / "to")
    for path in (tmp_path / "to").rglob("Linf/*.json"):
        assert exchange.read_robustbench(path).autoattack_acc is None
    assert "linf ε=0.3: no autoattack_acc" in _said(text)


@pytest.mark.parametrize("first", ["pgd", "apgd"])
def test_survivors_of_other_attacks_are_not_autoattacks(tmp_path, first):
    """Each was shown what those before it had left; PGD is none of the suite."""
    workdir, made = make_run(tmp_path / "run", "lmcl", attacks=()), []
    for i, attack in enumerate(dict.fromkeys((first, *SUITE))):
        settings = configs.default().evaluate[attack].to_dict()
        more = {"data": DIGEST, "images": IMAGES}
        made.append(
            measure(workdir, attack, settings, 15 - i, after=tuple(made), **more)
        )
    text = report.export(workdir, tmp_path / "to")
    path = tmp_path / "to" / "model_info" / "mnist" / "Linf" / "lmcl.json"
    accuracy = exchange.read_robustbench(path).autoattack_acc
    assert accuracy == (None if first == "pgd" else 55.0)
    assert ("no autoattack_acc" in _said(text)) == (first == "pgd")


def test_several_threat_models_are_several_files(tmp_path):
    workdir = _run(tmp_path / "run", ("pgd", "pgd_l2", "fmn_l1"), name="a [b] c")
    settings = configs.default().evaluate.pgd.to_dict() | {"epsilon": 8 / 255}
    measure(workdir, "pgd", settings, 15, data=DIGEST, images=IMAGES)
    text = report.export(workdir, tmp_path / "to")
    found = sorted((tmp_path / "to" / "model_info").rglob("*.json"))
    assert [
        str(path.relative_to(tmp_path / "to" / "model_info")) for path in found
    ] == [
        "mnist/L2/a__b__c.json",
        "mnist/Linf/a__b__c_eps0_3.json",
        "mnist/Linf/a__b__c_eps8_255.json",
    ]
    assert "RobustBench has no threat model of that norm" in _said(text)
    assert exchange.read_robustbench(found[2]).eps == 8 / 255


def _info(folder, attack):
    (path,) = folder.rglob(f"{attack}-*/info.json")
    return json.loads(path.read_text()), path.parent


def test_attacked_images_in_attackbenchs_form(tmp_path):
    workdir = _run(tmp_path / "run", ("pgd", "fmn_l2"))
    report.export(workdir, tmp_path / "to")
    info, folder = _info(tmp_path / "to", "pgd")
    assert folder.parent == tmp_path / "to" / "attackbench" / "mnist" / "linf" / "lmcl"
    assert info["hashes"] == KEYS
    assert info["ori_success"] == [False] * 19 + [True]
    assert info["adv_success"] == [False] * 10 + [True] * 10
    assert info["accuracy"] == 0.95 and info["ASR"] == 0.5 and not info["targeted"]
    change = np.abs(np.abs(IMAGES - 0.1) - IMAGES).reshape(20, 64)
    norms = {
        "linf": change.max(1),
        "l1": change.sum(1),
        "l2": (change**2).sum(1) ** 0.5,
    }
    for norm, expected in norms.items():
        np.testing.assert_allclose(info["distances"][norm], expected, rtol=1e-4)
    assert info["distances"]["l0"] == (change > 0).sum(1).tolist()
    assert info["best_optim_distances"]["l2"] == [*info["distances"]["l2"][:19], 0]
    assert info["num_backwards"] == [100] * 20 and "optimality" not in info
    config = json.loads((folder / "config.json").read_text())
    assert (
        config["attack"]["threat_model"] == "linf" and config["attack"]["steps"] == 100
    )
    assert config["model"] == {"dataset": "mnist", "name": "lmcl"}
    with np.load(folder / "images.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], np.abs(IMAGES - 0.1))
        np.testing.assert_array_equal(arrays["natural"], IMAGES)
        np.testing.assert_array_equal(arrays["labels"], LABELS)
        np.testing.assert_array_equal(arrays["success"], info["adv_success"])
        np.testing.assert_array_equal(arrays["distances"], info["distances"]["linf"])
        assert arrays["hashes"].tolist() == KEYS
    (compiled,) = (tmp_path / "to" / "attackbench").glob("mnist-linf-lmcl-*.json")
    best = json.loads(compiled.read_text())
    assert best[KEYS[19]] == 0 and best.keys() == {*KEYS[10:]}


def test_an_attack_on_survivors_has_those_alone(tmp_path):
    workdir = make_run(tmp_path / "run", "lmcl", attacks=())
    settings = configs.default().evaluate.pgd.to_dict()
    distance = np.where(np.arange(20) < 5, np.nan, 0.1)
    measure(workdir, "pgd", settings, 10, after=(), data=DIGEST, distance=distance)
    text = report.export(workdir, tmp_path / "to")
    info, _ = _info(tmp_path / "to", "pgd")
    assert info["hashes"] == KEYS[5:] and len(info["distances"]["l2"]) == 15
    assert info["ori_success"] == 14 * [False] + [True]
    said = r"pgd-\w{12} was shown 14 of 20 .* hold these, and 1 that are misclassified"
    assert re.search(said, _said(text))


def test_survivors_of_a_suite_have_no_optimality(tmp_path):
    """FAB-T stops at the first image within epsilon there: it is not the nearest."""
    workdir = make_run(tmp_path / "run", "lmcl", attacks=())
    settings = configs.default().evaluate.fab_t.to_dict()
    own = {"images": np.abs(IMAGES - 0.1), "data": DIGEST}
    suite = {"survivors_only": False, "suite": "autoattack"}
    measure(workdir, "fab_t", settings, 10, after=(), **own, **suite)
    path = _write_best(tmp_path, "info", [0.05] * 19 + [0.0])
    text = report.export(workdir, tmp_path / "to", best=[path])
    info, _ = _info(tmp_path / "to", "fab_t")
    assert "optimality" not in info
    assert "none was shown all images" in _said(text)


def _write_best(folder, form, values):
    """Best distances of the images in one of the forms that are read."""
    if form == "compiled":
        path = folder / "mnist-linf-lmcl-200.json"
        content = dict(zip(KEYS, values, strict=True))
    else:
        path = folder / "info.json"
        content = {
            "hashes": KEYS,
            "ori_success": [value == 0 for value in values],
            "adv_success": [value < INF for value in values],
            "distances": {"linf": [min(value, 9.0) for value in values]},
        }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", ["compiled", "info"])
def test_optimality_is_a_column_where_best_distances_are_given(tmp_path, form):
    workdir = _run(tmp_path / "run", ("pgd", "fmn"))
    best = [0.05] * 10 + [0.15] * 9 + [0.0]
    path = _write_best(tmp_path, form, best)
    text = report.export(workdir, tmp_path / "to", best=[path])
    info, _ = _info(tmp_path / "to", "fmn")
    own = np.array(info["distances"]["linf"])
    own[~np.array(info["adv_success"])] = INF
    pgd = _info(tmp_path / "to", "pgd")[0]
    other = np.where(pgd["adv_success"], pgd["distances"]["linf"], INF)
    own[19] = other[19] = 0
    known = np.minimum(best, np.minimum(own, other))
    assert info["optimality"] == pytest.approx(optimality(own, known))
    joined = optimality(own, known, joined=True)
    assert info["optimality_joined"] == pytest.approx(joined)
    assert 0 < info["optimality"] < 1 and "optimality" not in pgd
    (line,) = [each for each in text.splitlines() if each.startswith("FMN")]
    assert line.split()[-1] == f"{info['optimality']:.3f}"
    assert "optimality" in text.splitlines()[0]
    assert "optimality" not in report.export(workdir, tmp_path / "to").splitlines()[0]


def test_an_export_is_read_as_best_distances(tmp_path):
    workdir = _run(tmp_path / "run", ("pgd", "fmn"))
    report.export(workdir, tmp_path / "to")
    files_of = [
        *(tmp_path / "to").rglob("mnist-linf-*.json"),
        *(tmp_path / "to").rglob("info.json"),
        *(tmp_path / "to").rglob("images.npz"),
    ]
    assert len(files_of) == 5
    compiled, *infos = (exchange.read_best([path], "linf") for path in files_of)
    assert compiled == {k: v for k, v in exchange.read_best(files_of, "linf").items()
                        if v < INF}  # fmt: skip
    assert infos[0] == infos[2] and infos[1] == infos[3]
    assert exchange.read_best([files_of[0]], "l2") == {}
    text = report.export(workdir, tmp_path / "to", best=[files_of[0]])
    assert re.search(r"FMN\S* .* [01]\.\d{3}\n", text)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("linf.json", None, "is missing"),
        ("linf.json", "[", "is damaged"),
        ("best.json", "{}", "its name doesn't say"),
        ("l2-or-linf.json", "{}", "its name doesn't say"),
        ("linf.json", '{"x": 1}', "'x' is no key of an image"),
        ("linf.json", '{"KEY": -1}', "distance -1 is not valid"),
        ("linf.json", '{"KEY": NaN}', "distance nan is not valid"),
        ("linf.json", '{"KEY": "0.1"}', "distance '0.1' is not valid"),
        ("linf.json", '{"OTHER": 1}', "none of its 1 images in linf"),
        ("x.json", '{"hashes": []}', "no distances by norm"),
        ("x.json", '{"hashes": [], "distances": {"linf": [1]}}', "of one length"),
        ("x.json", '{"hashes": ["KEY"], "distances": {"linf": [1]}, "adv_success": [1],'
         ' "ori_success": [false]}', "must be true or false"),
        ("x.npz", "PK", "is missing or damaged"),
    ],
)  # fmt: skip
def test_bad_files_of_best_distances_are_one_line(tmp_path, name, content, said):
    workdir = _run(tmp_path / "run", ("fmn",))
    if content is not None:
        text = content.replace("KEY", KEYS[0]).replace("OTHER", "0" * 128)
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as error:
        report.export(workdir, tmp_path / "to", best=[tmp_path / name])
    assert name in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "to").exists()


def test_where_there_is_no_area_there_is_no_optimality(tmp_path):
    workdir = _run(tmp_path / "run", ("fmn",))
    path = _write_best(tmp_path, "compiled", [0.05] * 20)
    text = report.export(workdir, tmp_path / "to", best=[path])
    assert re.search(r"FMN-100 .* -\n", text)
    info, _ = _info(tmp_path / "to", "fmn")
    assert info["optimality"] is None


def test_best_distances_of_another_norm_are_said(tmp_path):
    workdir = _run(tmp_path / "run", ("fmn_l2",))
    path = _write_best(tmp_path, "compiled", [0.1] * 20)
    text = report.export(workdir, tmp_path / "to", best=[path])
    assert "No optimality in l2: --best has no distances in that norm." in _said(text)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path):
    workdir, folder = _run(tmp_path / "run"), tmp_path / "to"
    report.export(workdir, folder)
    mine = folder / "attackbench" / "mine.txt"
    mine.write_text("kept")
    other = _run(tmp_path / "other", ("noise",), name="other")
    report.export(other, folder)
    assert not list(folder.rglob("*lmcl*")) and mine.read_text() == "kept"
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"other.json", "info.json", "images.npz", "mine.txt"} <= names
    (folder / ".export.json").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"other.json is there, and no export's list"):
        report.export(other, folder)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.parametrize("content", ["[]", '{"files": ["../run/config.json"]}'])
def test_a_damaged_list_of_an_export_deletes_nothing(tmp_path, content):
    workdir, folder = _run(tmp_path / "run"), tmp_path / "to"
    folder.mkdir()
    (folder / ".export.json").write_text(content)
    with pytest.raises(InputError, match=r"\.export\.json is damaged"):
        report.export(workdir, folder)
    assert len(list(folder.iterdir())) == 1 and (workdir / "config.json").exists()


def test_runs_that_can_not_be_exported_are_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "to"
    with pytest.raises(InputError, match="can't be exported: no such run"):
        report.export(tmp_path / "x", folder)
    waiting = make_run(tmp_path / "a", "a", attacks=())
    with pytest.raises(InputError, match="can't be exported: not evaluated yet"):
        report.export(waiting, folder)
    workdir = _run(tmp_path / "run")
    others = Split(IMAGES / 2, LABELS)
    data = Dataset(others, others, 10)
    with monkeypatch.context() as patch:
        patch.setattr(workdirs, "load_data", lambda _: data)
        with pytest.raises(InputError, match="20 test images are not those"):
            report.export(workdir, folder)
    changes = {"data.source": "idx", "data.dir": "x"}
    unnamed = make_run(tmp_path / "b", "b", changes=changes)
    with pytest.raises(InputError, match=r"--dataset is missing: config.data.source"):
        report.export(unnamed, folder)
    assert not folder.exists()


def test_data_may_be_named(tmp_path):
    changes = {"data.source": "tfds", "data.name": "cifar10:3.0.2"}
    workdir = make_run(tmp_path / "a", "a", attacks=(), changes=changes)
    settings = configs.default().evaluate.pgd.to_dict()
    measure(workdir, "pgd", settings, 10, data=DIGEST, images=IMAGES)
    report.export(workdir, tmp_path / "to")
    assert (tmp_path / "to" / "model_info" / "cifar10" / "Linf" / "a.json").exists()
    report.export(workdir, tmp_path / "to", report.About(dataset="mine"))
    assert (tmp_path / "to" / "model_info" / "mine" / "Linf" / "a.json").exists()


def test_the_suite_is_the_registrys():
    assert [name for name in SUITE if name not in ATTACKS] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clean_acc": math.nan}, "clean_acc=nan is not valid: use a number from 0"),
        ({"clean_acc": 190}, "clean_acc=190 is not valid"),
        ({"eps": -1}, "eps=-1 is not valid"),
        ({"name": None}, "name=None is not valid: use a text"),
        ({"others": {"name": "other"}}, r"others=name is not valid: give it as name="),
        ({"others": [1]}, r"others=\[1\] is not valid: use a dict of what JSON holds"),
        ({"others": None}, r"others=None is not valid: use a dict"),
        ({"others": {"a": b"x"}}, r"others=.* is not valid: use a dict of what JSON"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        exchange.write_robustbench(tmp_path / "x.json", INFO._replace(**changes))
    assert not list(tmp_path.iterdir())


def test_what_can_be_read_can_be_written(tmp_path):
    info = INFO._replace(
        eps="8/255", clean_acc="95.1", number_forward_passes=np.int64(3)
    )
    exchange.write_robustbench(tmp_path / "x.json", info)
    found = exchange.read_robustbench(tmp_path / "x.json")
    assert (found.eps, found.clean_acc) == (8 / 255, 95.1)
    assert found.number_forward_passes == 3
    with pytest.raises(InputError, match=r"info=.* is not valid: use a ModelInfo"):
        exchange.write_robustbench(tmp_path / "y.json", {"name": "x"})


@pytest.mark.parametrize("path", [None, 3, ""])
def test_what_is_no_file_is_one_line(path):
    with pytest.raises(InputError, match=r"path=.* is not valid: name a file"):
        exchange.read_robustbench(path)
    with pytest.raises(InputError, match=r"paths=.* is not valid: name a file"):
        exchange.read_best([path], "linf")


def test_arguments_of_best_distances_are_held_to_what_they_are(tmp_path):
    path = tmp_path / "mnist-linf-x-1.json"
    path.write_text(json.dumps({"a" * 128: 0.1}))
    for one in (path, str(path), None):
        with pytest.raises(InputError, match=r"paths=.* use a list of files"):
            exchange.read_best(one, "linf")
    for norm in ("Linf", None, 2):
        with pytest.raises(InputError, match=r"norm=.* is not valid: use one of linf"):
            exchange.read_best([path], norm)
    path.write_text(json.dumps({"a" * 128: 10**400}))
    with pytest.raises(InputError, match=r"the distance 10+ is not valid"):
        exchange.read_best([path], "linf")


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_image_that_is_there_twice_the_nearest_counts(tmp_path, order):
    path = tmp_path / "info.json"
    content = {
        "hashes": ["a" * 128] * 3,
        "distances": {"linf": [0.5, 0.2, 0.1][::order]},
        "ori_success": [False] * 3,
        "adv_success": [True, True, False][::order],
    }
    path.write_text(json.dumps(content))
    assert exchange.read_best([path], "linf") == {"a" * 128: 0.2}


def test_what_are_no_images_is_not_hashed():
    images = np.full((2, 4, 4, 1), 0.5, np.float32)
    for wrong in (images[0], 255 * images, np.uint8(images)):
        with pytest.raises(InputError, match="images"):
            exchange.hashes(wrong)
