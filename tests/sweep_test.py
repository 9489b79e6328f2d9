"""A sweep's text: what it stands for, and what is wrong with it."""

import pytest

from advloss import config as configs
from advloss.config import sweep
from advloss.errors import InputError
from configs import few_digits, lmcl_sweep


@pytest.fixture
def lmcl():
    config = configs.default()
    config.name, config.loss.name = "lmcl", "lmcl"
    return config


def test_every_combination_seed_by_seed(lmcl):
    found = sweep.expand(lmcl, "loss.margin=0.1,1 seed=0,7")
    assert [(v.config.loss.margin, v.config.seed) for v in found] == [
        (0.1, 0), (1.0, 0), (0.1, 7), (1.0, 7),
    ]  # fmt: skip
    assert [v.config.name for v in found] == [
        "lmcl_margin0.1", "lmcl_margin1", "lmcl_margin0.1", "lmcl_margin1",
    ]  # fmt: skip
    assert found[0].values == {"loss.margin": 0.1, "seed": 0}
    names = {v.config.name for v in sweep.expand(lmcl, "loss.margin=1.0,2/2e1")}
    assert names == {"lmcl_margin1", "lmcl_margin0.1"}


def test_texts_and_truths_can_be_swept(lmcl):
    text = "train.schedule=constant,cosine train.attack.random_start=True,False"
    found = sweep.expand(lmcl, text)
    assert len({v.config.name for v in found}) == 4
    assert found[1].config.train.attack.random_start is False


def test_the_margins_of_the_config_are_valid():
    config = lmcl_sweep.get_config("short")
    text = config.sweep
    del config.sweep
    assert len(sweep.expand(config, text)) == 15


def test_few_digits_are_swept_with_both_losses():
    config = few_digits.get_config("300")
    text = config.sweep
    del config.sweep
    variants = sweep.expand(config, text)
    assert len(variants) == 2 * 5 * 5
    assert {variant.config.train.steps for variant in variants} == {300}
    margins = {v.config.loss.name: v.config.loss.margin for v in variants}
    assert margins == {"softmax_cross_entropy": None, "lmcl": 0.3}
    with pytest.raises(ValueError, match=r"few_digits.py:x: use a whole number"):
        few_digits.get_config("x")


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
        ("loss.margins=0.1", r"config.loss.margins='0.1' is not a key.*loss.margin"),
        ("loss.margin=3", r"config.loss.margin=3.0 is not valid.*\(0, 1.111\]"),
        ("seed=zero", "config.seed='zero' is not valid: use a whole number"),
        ("loss.margin.x=1", "is not a key"),
        ("loss=1", "is not a key"),
        ("seed=[1],[2]", r"config.seed='\[1\]' is not valid: use a whole number"),
        ("seed={},{}", r"config.seed='\{\}' is not valid: use a whole number"),
        ("loss.margin=1/2,0.5", "named twice"),
        ("loss.margin=1/0", "config.loss.margin='1/0' is not valid: use a finite num"),
        ("loss.margin=1e-50", "margin=1e-50 is not .*is 0 in float32.* from 1.2e-38"),
        ("seed=0,\x85,1", r"config.sweep='seed=0,\\x85,1' is not valid"),
        ("0\x85=0", r"config.0\\x85='0' is not a key"),
        ("seed=" + ",".join(map(str, range(20_000))), "it has more than 5000 runs"),
        (
            f"seed={','.join(map(str, range(101)))} "
            f"train.steps={','.join(map(str, range(1, 101)))}",
            "it has more than 5000 runs",
        ),
        ("train.milestones=(0.5,0.7", "not closed"),
        ("data.name='a", "not closed"),
        ('"seed=0,1"', "config.\"seed='0' is not a key"),
        ("data.name=a,'a'", "named twice"),
        (
            "loss.margin=None,0.3",
            "loss.margin=None and loss.margin=0.3 are the same run",
        ),
        (
            "seed=0,1 evaluate.attacks=(paper,),(pgd,)",
            r"seed=0 .*\('paper',\) and seed=0 .*\('pgd',\) are the same run",
        ),
        ("train.attack.name=none,pgd", "of version 0.1: use defence.name=natural"),
        ("seed=" + "9" * 5000, "config.seed='9+... is not valid"),
    ],
)
def test_a_wrong_text_is_one_line(lmcl, text, message):
    with pytest.raises(InputError, match=message) as error:
        sweep.expand(lmcl, text)
    assert len(str(error.value).splitlines()) == 1


def test_numbers_may_be_as_on_a_command_line(lmcl):
    text = "train.steps=1e3,4/2 train.attack.epsilon=8/255,1/3 train.milestones=(1/3,)"
    found = sweep.expand(lmcl, text)
    assert {v.config.train.steps for v in found} == {1000, 2}
    assert {v.config.train.attack.epsilon for v in found} == {8 / 255, 1 / 3}
    assert {v.config.train.milestones for v in found} == {(1 / 3,)}


def test_tuples_stand_in_brackets(lmcl):
    text = "train.milestones=(0.5, 0.75),(0.9,),[] evaluate.attacks=(pgd, fgsm),noise"
    found = sweep.expand(lmcl, text)
    assert [v.config.train.milestones for v in found[::2]] == [(0.5, 0.75), (0.9,), ()]
    assert [v.config.evaluate.attacks for v in found[:2]] == [
        ("pgd", "fgsm"), ("noise",),
    ]  # fmt: skip
    assert found[0].config.name == "lmcl_milestones0.5+0.75_attackspgd+fgsm"[:40]
    assert len({v.config.name for v in found}) == len(found)


def test_quotes_keep_spaces_and_commas(lmcl):
    found = sweep.expand(lmcl, "data.dir='a b','c,d',/e")
    assert [v.config.data.dir for v in found] == ["a b", "c,d", "/e"]


@pytest.mark.parametrize(
    "text",
    [
        "train.attack.step_size=0.10714285714285714,0.21428571428571427 "
        "train.learning_rate=0.0003333,0.001 train.attack.epsilon=0.1,0.3",
        "data.dir=/data/mnist,/data/other",
        r"data.dir=a\b,a/b,a-b",
        "data.name=" + ",".join(100 * letter for letter in "abc"),
        "data.name=é,ü,日本",
        "data.name=a,a_dirb data.dir=b_dirc,c",
        "evaluate.carlini_l2.binary_search_steps=5,9 evaluate.carlini_l2.steps=1000,7",
        "train.steps=5,7 evaluate.pgd.steps=5,7",
    ],
)
def test_names_always_fit(lmcl, text):
    lmcl.name = "a long name of thirty characters"
    for name in ("lmcl", lmcl.name):
        lmcl.name = name
        found = sweep.expand(lmcl, f"{text} seed=0,1")
        names = [variant.config.name for variant in found]
        assert len(set(names)) == len(found) // 2
        assert all(len(n) <= 40 and n.startswith(name[:4]) for n in names)
        assert not any("/" in n or "\\" in n for n in names)
        # A sweep that grows finds what it has.
        first = text.split()[0].partition(",")[0]
        if len(text.split()) == 1:
            assert sweep.expand(lmcl, first)[0].config.name == names[0]


def test_a_long_name_tells_its_values(lmcl):
    text = (
        "train.attack.step_size=0.10714285714285714 train.learning_rate=0.0003333 "
        "train.attack.epsilon=0.1"
    )
    (found,) = sweep.expand(lmcl, text)
    assert found.config.name.startswith("lmcl_ss0.107_lr0.000333_eps0.1-")


def test_without_a_name_variants_have_that_of_loss_and_defence():
    config = configs.default()
    config.loss.name, config.defence.name = "lmcl", "trades"
    (found,) = sweep.expand(config, "loss.margin=0.1")
    assert found.config.name == "lmcl_trades_margin0.1"
    found = sweep.expand(config, "loss.name=hinge,arcface")
    assert [v.config.name for v in found] == ["sweep_namehinge", "sweep_namearcface"]


def test_the_base_must_be_a_name(lmcl):
    lmcl.name = "a/b"
    with pytest.raises(InputError, match=r"config.name='a/b' is not valid"):
        sweep.expand(lmcl, "seed=0,1")
