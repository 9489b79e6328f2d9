"""A config as JSON, and as it lies in a work directory."""

import json

import pytest

from advloss import config as configs
from advloss.attacks import ATTACKS
from advloss.config import saved
from advloss.errors import InputError
from advloss.losses import LOSSES
from advloss.registry import Setting, positive
from configs import default, quickstart


def test_json_gives_the_same_config_back():
    config = configs.resolve(quickstart.get_config("lmcl"))
    again = configs.from_dict(json.loads(configs.to_json(config)))
    assert dict(configs.flatten(again)) == dict(configs.flatten(config))
    assert configs.training_differences(config, again) == []


def test_differences_that_matter_to_training():
    first = configs.resolve(quickstart.get_config("lmcl"))
    second = configs.resolve(quickstart.get_config("lmcl"))
    second.evaluate.pgd.steps = 7
    second.name = "other"
    second.data.dir = second.data.file = "elsewhere"
    assert configs.training_differences(first, second) == []
    second.loss.margin = 0.5
    assert configs.training_differences(first, second) == [
        "loss.margin: 0.3 there, 0.5 here"
    ]


def test_a_config_in_a_work_directory(tmp_path):
    config = configs.resolve(quickstart.get_config("lmcl"))
    (tmp_path / configs.CONFIG).write_text(configs.to_json(config), encoding="utf-8")
    assert configs.load_config(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no run"),
        ("{", "is damaged"),
        ("[]", "holds no JSON object"),
        ("{}", "is missing"),
        ('{"seed": 0}', "is missing"),
        ('{"train": {"attack": {"name": "pgd"}}}', "of version 0.1"),
        ('{"a.b": 0}', "can't be read"),
        ('{"__class__": 0}', "can't be read"),
        ("[" * 100_000, "is damaged"),
        ('{"a":' * 900 + "0" + "}" * 900, r"can't be read|is not a key"),
        ("\xff", "is damaged"),
    ],
)
def test_a_damaged_config_in_a_work_directory(text, message, tmp_path):
    if text is not None:
        (tmp_path / configs.CONFIG).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=message) as caught:
        configs.load_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_for_a_work_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file is not a folder"):
        configs.load_config(tmp_path / "file")


def test_a_key_that_a_saved_config_has_not_is_told(tmp_path):
    values = configs.resolve(default.get_config()).to_dict()
    del values["train"]["average"], values["loss"]["scale"], values["evaluate"]["seed"]
    del values["evaluate"]["fab"], values["evaluate"]["pgd"]["restarts"]
    with pytest.warns(UserWarning) as told:
        config = configs.from_saved(values, tmp_path)
    (message,) = (str(warning.message) for warning in told)
    assert "train.average=0.0" in message
    assert "evaluate.pgd.restarts=1, evaluate.seed=0" in message
    # Of attacks that are not asked for, the number.
    count = len(ATTACKS["fab"].settings)
    assert message.endswith(f", {count} defaults of attacks that it does not ask for")
    assert "scale" not in message  # Softmax has none.
    assert config.to_dict() == configs.resolve(default.get_config()).to_dict()


def test_a_default_that_changes_does_not_change_a_run(tmp_path, monkeypatch):
    """Nor does a setting that a loss has now and had not then, without a word."""
    old = configs.resolve(default.get_config())
    values = json.loads(configs.to_json(old))
    pgd = ATTACKS["pgd"]
    monkeypatch.setitem(ATTACKS, "pgd", pgd._replace(training={"steps": 9}))
    assert configs.resolve(default.get_config()).train.attack.steps == 9
    assert configs.from_saved(values, tmp_path).to_dict() == old.to_dict()
    softmax = LOSSES["softmax_cross_entropy"]
    setting = Setting(2.0, positive(), "new", swept=True)
    softmax = softmax._replace(settings={"scale": setting})
    monkeypatch.setitem(LOSSES, "softmax_cross_entropy", softmax)
    with pytest.warns(UserWarning, match=r"read with loss.scale=2.0"):
        configs.from_saved(values, tmp_path)


def test_training_depends_on_these_sections():
    config = configs.resolve(default.get_config())
    kept = {key.split(".")[0] for key, _ in saved.flatten_training(config)}
    assert kept == {"seed", "loss", "defence", "data", "model", "train"}


def test_attacks_of_another_type_are_named(tmp_path):
    """Beside an attack that is not entered here, too."""
    values = configs.resolve(configs.default()).to_dict()
    values["evaluate"] |= {"attacks": 5, "mine": {"epsilon": 0.1}}
    with pytest.raises(InputError, match=r"config.evaluate.attacks=5 is not valid"):
        configs.from_saved(values, tmp_path / "config.json")
