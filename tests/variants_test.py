"""A sweep's text: what it stands for, and what is wrong with it."""

import pytest

from advloss import report, study, variants
from advloss.errors import InputError
from configs import default, lmcl_sweep


@pytest.fixture
def lmcl():
    config = default.get_config()
    config.name, config.loss.name = "lmcl", "lmcl"
    return config


def test_every_combination_seed_by_seed(lmcl):
    found = variants.expand(lmcl, "loss.margin=0.1,1 seed=0,7")
    assert [(v.config.loss.margin, v.config.seed) for v in found] == [
        (0.1, 0), (1.0, 0), (0.1, 7), (1.0, 7),
    ]  # fmt: skip
    assert [study.workdir_of(v.config, "x").name for v in found] == [
        "lmcl_margin0.1-seed0", "lmcl_margin1-seed0",
        "lmcl_margin0.1-seed7", "lmcl_margin1-seed7",
    ]  # fmt: skip
    assert found[0].values == {"loss.margin": 0.1, "seed": 0}


def test_texts_and_truths_can_be_swept(lmcl):
    text = "train.schedule=constant,cosine train.attack.random_start=True,False"
    found = variants.expand(lmcl, text)
    assert len({v.config.name for v in found}) == 4
    assert found[1].config.train.attack.random_start is False


def test_the_margins_of_the_config_are_valid():
    config = lmcl_sweep.get_config("short")
    text = config.sweep
    del config.sweep
    assert len(variants.expand(config, text)) == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it names no key"),
        ("seed", "'seed' is not of the form KEY=VALUE"),
        ("seed=0,,1", "not of the form"),
        ("=1", "not of the form"),
        ("seed=0,0", "named twice"),
        ("seed=0 seed=1", "named twice"),
        ("name=a,b", "made of its values"),
        ("loss.margins=0.1", r"config.loss.margins=0.1 is not a key.*loss.margin"),
        ("loss.margin=3", r"config.loss.margin=3.0 is not valid.*\(0, 1.111\]"),
        ("seed=zero", "config.seed='zero' is not valid: use a whole number"),
        ("loss.margin.x=1", "is not a key"),
    ],
)
def test_a_wrong_text_is_one_line(lmcl, text, message):
    with pytest.raises(InputError, match=message) as error:
        variants.expand(lmcl, text)
    assert "\n" not in str(error.value)


def test_the_report_of_a_sweep_that_has_not_begun(lmcl, tmp_path):
    found = variants.expand(lmcl, "loss.margin=0.1,0.3 seed=0,1")
    text = report.write_sweep(found, tmp_path, command="make it")
    assert "lmcl_margin0.3-seed1: no such run." in text
    assert (tmp_path / "report" / "report.html").exists()
