"""Losses, attacks and defences in words: titles from their registries, and settings.

attack_title("pgd", {"epsilon": 0.3, "steps": 100})     # PGD-100 ε=0.3
defence_title(config)                                   # TRADES (β=6), PGD-5 ε=0.3
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from advloss.attacks import ATTACKS, SUITES
from advloss.defences import DEFENCES
from advloss.losses import LOSSES
from advloss.registry import Setting

if TYPE_CHECKING:
    from advloss.evaluation.measured import Attack
    from advloss.evaluation.results import SuiteSummary

# How mathematics writes some settings; others stand as their keys.
_SYMBOLS = {
    "beta": "β",
    "epsilon": "ε",
    "margin": "m",
    "scale": "s",
    "temperature": "T",
}
# Said by the title's form, or of little weight; named where nothing else tells apart.
_UNSAID = ("epsilon", "steps", "step_size")
UNION = "union of threat models"

Suite = tuple[str, tuple[tuple[str, dict[str, Any]], ...]]
"""Name, and its attacks with their settings."""


def value_text(value: Any) -> str:
    """A setting's value, and no other's: all digits of a number, n/255 known.

    >>> value_text(0.3), value_text(8 / 255), value_text(0.30001), value_text(10)
    ('0.3', '8/255', '0.30001', '10')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    short = f"{value:.4g}"
    if float(short) == value:
        return short
    levels = round(255 * value) if 0 < value < 1 else 0
    return f"{levels}/255" if levels / 255 == value else str(value)


def worst_title(norm: str, epsilon: float) -> str:
    """The worst case under a threat model, such as "worst linf ε=0.3"."""
    return f"worst {norm} ε={value_text(epsilon)}"


def loss_title(config: ConfigDict) -> str:
    """The loss with its hyperparameters, such as "LMCL (s=10, m=0.3)"."""
    loss = LOSSES[config.loss.name]
    return loss.title + _in_brackets(loss.settings, config.loss)


def attack_title(
    name: str,
    settings: Mapping[str, Any],
    extra: Collection[str] = (),
    *,
    training: bool = False,
) -> str:
    """An attack with the settings that matter most, such as "PGD-100 ε=0.3".

    Args:
        name: its key in the registry.
        settings: of the attack.
        extra: further settings to be named.
        training: its defaults are those of training.
    """
    attack = ATTACKS[name]
    title, norm = attack.title, f" {attack.norm}"
    usual = {key: each.default for key, each in attack.settings.items()}
    usual |= attack.training if training else {}
    if "steps" in settings:
        steps = value_text(settings["steps"])
        own = norm if title.endswith(norm) else ""
        title = f"{title.removesuffix(own)}-{steps}{own}"
    words = [title]
    if "epsilon" in settings:
        words.append(f"ε={value_text(settings['epsilon'])}")
    for key, value in settings.items():
        unusual = key in usual and value != usual[key] and key not in _UNSAID
        if unusual or key in extra:
            words.append(f"{key}={value_text(value)}")
    return " ".join(words)


def attack_titles(attacks: Iterable["Attack"]) -> list[tuple["Attack", str]]:
    """Every attack once, with a title unlike the others'."""
    found = _once(attacks)
    before = [each for *_, others in found for each in others or ()]
    alone = _once(
        [*(each[:2] for each in found), *(b for b in before if not isinstance(b, str))]
    )

    def plain(name: str, settings: Mapping[str, Any]) -> str:
        others = [other for same, other in alone if same == name]
        # "PGD-100" twice would hide that they are two different attacks.
        extra = [
            key
            for key in settings
            if key not in ("steps", "epsilon")
            and any(other.get(key) != settings[key] for other in others)
        ]
        return attack_title(name, settings, extra)

    def title(attack: "Attack") -> str:
        name, settings, before, suite = attack
        own = plain(name, settings)
        if suite:
            own = f"{SUITES[suite].title}: {own}"
        others = [
            each for each in found if each[:2] == attack[:2] and each.suite == suite
        ]
        if before is None or len(others) == 1:
            return own
        shown = [each if isinstance(each, str) else plain(*each) for each in before]
        return f"{own} after {', '.join(shown) or 'nothing'}"

    return [(each, title(each)) for each in found]


def suite_titles(suites: Iterable["SuiteSummary"]) -> list[tuple[Suite, str]]:
    """Every suite once, with a title unlike the others', such as "fast ε=0.3"."""
    found = _once((each.name, each.attacks) for each in suites)

    def title(name: str, attacks: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        radii = dict.fromkeys(settings["epsilon"] for _, settings in attacks)
        short = f"{SUITES[name].title} ε={', '.join(map(value_text, radii))}"
        if [other for other, _ in found].count(name) == 1:
            return short
        return f"{short} ({', '.join(attack_title(*each) for each in attacks)})"

    return [(each, title(*each)) for each in found]


def _once(items: Iterable[Any]) -> list[Any]:
    """Settings are dicts, which no set takes."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def training_attack(config: ConfigDict) -> tuple[str, dict[str, Any]]:
    """The attack that a defence trains against, with its settings filled in."""
    name = config.defence.attack
    attack, chosen = ATTACKS[name], config.train.attack
    usual = {key: each.default for key, each in attack.settings.items()}
    usual |= attack.training
    given = {key: chosen[key] for key in usual if chosen.get(key) is not None}
    return name, usual | given


def defence_title(config: ConfigDict) -> str:
    """What a network was trained against.

    "nothing"; "PGD-40 ε=0.3" of adversarial training; of another defence its title and
    settings, then its attack; at the end what goes with any defence.
    """
    words, chosen = [_defence(config)], config.defence
    if chosen.awp:
        words.append(f"AWP {value_text(chosen.awp)}")
    if chosen.label_smoothing:
        words.append(f"label smoothing {value_text(chosen.label_smoothing)}")
    return ", ".join(words)


def _defence(config: ConfigDict) -> str:
    name, chosen = config.defence.name, config.defence
    defence = DEFENCES[name]
    own = defence.title + _in_brackets(defence.settings, chosen)
    if name == "natural":
        usual = defence.settings["temperature"].default
        return "nothing" if chosen.get("temperature") in (None, usual) else own
    if not defence.attacks:
        return own
    attack = attack_title(*training_attack(config), training=True)
    return attack if name == "adversarial" else f"{own}, {attack}"


def _in_brackets(settings: Mapping[str, Setting], chosen: ConfigDict) -> str:
    words = []
    for key, setting in settings.items():
        if setting.valid.kind is str:
            continue  # Where a teacher lies says nothing of it.
        value = chosen.get(key)
        value = setting.default if value is None else value
        words.append(f"{_SYMBOLS.get(key, key)}={value_text(value)}")
    return f" ({', '.join(words)})" if words else ""
