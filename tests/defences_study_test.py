"""The study of all defences: what an update costs, and the table."""

import numpy as np
import pytest
from made_runs import make_run

from advloss import config, report
from advloss.cli import members
from advloss.defences import DEFENCES
from advloss.losses import LOSSES
from advloss.report.study import of_rows
from advloss.training import cost
from configs import defences


@pytest.fixture(scope="module")
def networks():
    found = members.networks(defences.get_config("short"), ("defences",))
    return {each.name: each for each in found if each.seed == 0}


def test_every_defence_and_loss_is_trained(networks):
    assert {each.defence.name for each in networks.values()} == DEFENCES.keys()
    assert {each.loss.name for each in networks.values()} == LOSSES.keys()
    attacks = {each.defence.attack for each in networks.values()}
    assert attacks == {"pgd", "fgsm", "fgsm_rs", "n_fgsm", "noise"}
    switches = {key for e in networks.values() for key, v in e.defence.items() if v}
    assert switches >= {"awp", "label_smoothing"}


@pytest.mark.parametrize("name", defences.NETWORKS)
def test_every_network_costs_the_same(networks, name):
    """The cost that the config tells is the one that its attack counts itself."""
    own = networks[name]
    passes = cost.of_update(own)
    assert passes.backward == defences.NETWORKS[name].cost
    gradients = passes.backward * own.train.steps * own.train.batch_size
    most = defences.BUDGETS["short"]
    assert most - passes.backward * own.train.batch_size < gradients <= most


@pytest.mark.parametrize(
    ("changes", "backward", "forward"),
    [
        ({"defence.name": "distillation"}, 2, 1),
        ({"defence.name": "distillation", "defence.teacher": "runs/other"}, 1, 1),
        ({"defence.name": "trades", "train.attack.steps": 10}, 12, 0),
        ({"defence.name": "trades", "defence.awp": 0.01}, 9, 0),
        ({"defence.name": "distillation", "defence.awp": 0.01}, 4, 2),
        ({"defence.name": "free", "defence.attack": "fgsm"}, 1, 0),
        ({"defence.name": "free", "defence.attack": "fgsm", "defence.awp": 0.01}, 2, 0),
        ({"train.attack.restarts": 3}, 16, 2),
        ({"train.attack.restarts": 3, "loss.name": "lmcl"}, 16, 2),
    ],
)
def test_what_an_update_costs(changes, backward, forward):
    settings = config.default()
    for key, value in changes.items():
        config.put(settings, key, value)
    assert cost.of_update(config.resolve(settings)) == (backward, forward)


def test_an_unknown_budget_is_refused():
    with pytest.raises(ValueError, match=r"nosuch: use one of .*'short'"):
        defences.get_config("nosuch")


MADE = {
    "pgd": ({}, 0.6),
    "trades": ({"defence.name": "trades"}, 0.7),
    "distillation": ({"defence.name": "distillation"}, 0.9),
}


def _study(folder, seeds=3):
    """Each network leaves its share under PGD, and one image fewer at worst."""
    return [
        make_run(
            folder / f"{name}-seed{seed}", name, accuracy=accuracy + 0.05 * (seed == 1),
            changes={**changes, "seed": seed},
        )
        for seed in range(seeds)
        for name, (changes, accuracy) in MADE.items()
    ]  # fmt: skip


def _section(workdirs):
    (section,) = report.sections_of_paper(["defences"], workdirs)
    head, *rows = section.table
    return section, {row[0]: dict(zip(head[1:], row[1:], strict=False)) for row in rows}


def test_the_table_has_accuracy_and_cost(tmp_path):
    section, table = _section(_study(tmp_path))
    assert list(table) == ["pgd", "trades", "distillation"]
    trades = table["trades"]
    assert trades["trained against"] == "TRADES (β=6), PGD-5 ε=0.3"
    assert (trades["updates"], trades["gradients M"]) == ("600", "0.21")
    assert trades["natural %"].startswith("95.0 [")
    assert trades["attacked %"].startswith("71.7 [")  # Of 70, 75 and 70.
    assert trades["worst %"].startswith("66.7 [")
    assert trades["hidden"] == "5.0" and trades["fast %"] == "-"
    assert table["distillation"]["gradients M"] == "0.06"
    narrow = {row[0]: row[1:] for row in section.terminal}
    assert narrow["trades"] == ["95.0", "71.7", "-", "66.7", "5.0", "0.21"]
    (record,) = (
        each
        for each in section.records
        if (each["network"], each["seed"], each["measure"]) == ("trades", 1, "worst")
    )
    assert record["accuracy"] == pytest.approx(0.7)


def test_what_pgd_hides_is_marked(tmp_path, monkeypatch):
    from advloss.report import defences_table

    monkeypatch.setattr(defences_table, "_MASKED", 5.0)
    _, table = _section(_study(tmp_path))
    assert {row["hidden"] for row in table.values()} == {"5.0 *"}


def test_the_others_are_compared_with_pgd_training(tmp_path):
    section, _ = _section(_study(tmp_path))
    said = " ".join(section.notes)
    assert "trades +10.0 at each of 3 seeds; distillation +30.0 at each" in said
    workdirs = [w for w in _study(tmp_path / "other") if not w.name.startswith("pgd")]
    assert "against pgd" not in " ".join(_section(workdirs)[0].notes)


def test_seconds_are_those_of_the_log(tmp_path):
    workdirs = _study(tmp_path, seeds=1)
    lines = [
        '{"step": 10, "loss": 1, "accuracy": 0, "steps_per_second": 5}',
        '{"step": 30, "loss": 1, "accuracy": 0, "steps_per_second": 10}',
    ]
    (workdirs[0] / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    _, table = _section(workdirs)
    assert table["pgd"]["seconds"] == "4" and table["trades"]["seconds"] == "-"
    teacher = workdirs[2] / "teacher" / "metrics.jsonl"
    teacher.parent.mkdir()
    teacher.write_text(lines[0] + "\n")
    assert _section(workdirs)[1]["distillation"]["seconds"] == "2"


def test_a_network_that_is_not_there_says_so(tmp_path):
    section, table = _section([*_study(tmp_path, 1), tmp_path / "mart-seed0"])
    assert table["mart"] == {"natural %": "no such run"}
    assert ["mart", "no such run"] in [list(row) for row in section.terminal]


def test_rows_measured_unlike_are_not_compared(tmp_path):
    workdirs, labels = _study(tmp_path), np.arange(30) % 10
    other = make_run(tmp_path / "pgd-seed9", "pgd", labels=labels, changes={"seed": 9})
    from advloss.report import rows

    study = of_rows(rows.load_rows([*workdirs, other]))
    assert not study.alike(tuple(study.groups))
    assert "differences are not tested" in " ".join(
        _section([*workdirs, other])[0].notes
    )
