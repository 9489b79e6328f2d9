"""Our AutoAttack against its authors', on the same networks and digits.

    make compare-autoattack RUNS=runs/quickstart/softmax,runs/quickstart/lmcl

Attacks the first test digits with the attacks of AutoAttack, one by one and as the
standard suite, by pyautoattack (the authors' code, on PyTorch) and by ours, and prints
a table in Markdown: robust accuracy, and seconds without compilation. Beside the
authors' standard suite stands our suite `fast`, too. Both use all cores. An attack that
is not registered is left out, with a line.

Ends with an error where a robust accuracy is more than 1 point from the authors', the
suite's more than 0.5, or that of `fast` more than 0.3 above the authors' suite's.
"""

import sys
import time

import jax
import numpy as np
import torch
from absl import app, flags
from pyautoattack import AutoAttack
from torch_networks import TWINS, to_torch

import advloss
from advloss.attacks import ATTACKS, SUITES
from advloss.losses import LOSSES
from advloss.training.workdir import load_data
from advloss.types import Split

_RUNS = flags.DEFINE_list("runs", None, "Work directories.", required=True)
_EXAMPLES = flags.DEFINE_integer("examples", 200, "The first so many test digits.")
_ONLY = flags.DEFINE_list("only", [], "Attacks to be compared; all by default.")
_NORM = flags.DEFINE_enum("norm", "linf", ["linf", "l2"], "Of all attacks.")
_EPSILON = flags.DEFINE_float("epsilon", None, "By default 0.3 in linf, 2 in l2.")

_STANDARD = ["apgd-ce", "apgd-t", "fab-t", "square"]
# Ours, the authors' and what ours is set to: the authors' standard suite starts once.
_COMPARISONS = {
    "apgd": (["apgd-ce"], {}),
    "apgd_dlr": (["apgd-dlr"], {"restarts": 1}),
    "apgd_t": (["apgd-t"], {}),
    "fab": (["fab"], {"restarts": 1}),
    "fab_t": (["fab-t"], {}),
    "square": (["square"], {}),
    "autoattack": (_STANDARD, {}),
    "fast": (_STANDARD, {}),
}
_BOUNDS = {"autoattack": 0.005, "fast": 0.003}  # Of single attacks, 0.01.
_found: dict[tuple, tuple[np.ndarray, float]] = {}  # The authors', so far.
_compiling = [0.0]  # Seconds so far.


def _listen(event: str, seconds: float, **_) -> None:
    _compiling[0] += seconds * event.startswith("/jax/core/compile/")


def _theirs(
    run: advloss.Run, split: Split, attacks: list[str], epsilon: float
) -> tuple[np.ndarray, float]:
    """Which digits the authors' attacks leave, and the seconds."""
    cosine = LOSSES[run.config.loss.name].head == "cosine"
    network = TWINS[run.config.model.name](run.variables, cosine=cosine).eval()
    x, y = to_torch(split.images), torch.from_numpy(split.labels).long()
    logits, ours = network(x).numpy(), run.classifier(split.images)
    np.testing.assert_allclose(logits, ours, atol=1e-5 * np.abs(ours).max())
    norm = {"linf": "Linf", "l2": "L2"}[_NORM.value]
    suite = AutoAttack(network, norm=norm, eps=epsilon, seed=0, version="standard")
    suite.attacks_to_run = attacks
    started = time.perf_counter()
    images, _ = suite.run_standard_evaluation(x, y)
    seconds = time.perf_counter() - started
    order = {"linf": np.inf, "l2": 2}[_NORM.value]
    change = (images - x).flatten(1).numpy()
    assert np.linalg.norm(change, order, axis=1).max() <= epsilon * (1 + 1e-5)
    return (network(images).argmax(1) == y).numpy(), seconds


def _ours(
    run: advloss.Run, split: Split, name: str, epsilon: float, settings: dict
) -> tuple[np.ndarray, float]:
    """Which digits ours leave, and the seconds without compilation."""
    started, before = time.perf_counter(), _compiling[0]
    result = advloss.evaluate(
        run,
        *split,
        epsilon=epsilon,
        norm=_NORM.value,
        attacks=name,
        progress=False,
        **settings,
    )
    return result.robust[0], time.perf_counter() - started - _compiling[0] + before


def _compare(run: advloss.Run, split: Split, attack: str) -> str | None:
    """Prints a line of the table; returns what does not hold, as a sentence."""
    theirs, settings = _COMPARISONS[attack]
    is_suite = theirs is _STANDARD
    name = attack if is_suite or _NORM.value == "linf" else f"{attack}_{_NORM.value}"
    if name not in (SUITES if is_suite else ATTACKS):
        print(f"{name} is not registered: left out", file=sys.stderr)
        return None
    epsilon = _EPSILON.value or {"linf": 0.3, "l2": 2.0}[_NORM.value]
    key = (run.config.name, *theirs)
    if key not in _found:
        _found[key] = _theirs(run, split, theirs, epsilon)
    ours = _ours(run, split, name, epsilon, settings)
    left, seconds = zip(_found[key], ours, strict=True)
    rates = [each.mean() for each in left]
    cells = [run.config.name, name, *(f"{rate:.1%}" for rate in rates)]
    cells += [int((left[0] != left[1]).sum()), *(f"{each:.0f}" for each in seconds)]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    above, bound = rates[1] - rates[0], _BOUNDS.get(attack, 0.01)
    if above > bound + 1e-9 or (attack != "fast" and -above > bound + 1e-9):
        return f"{run.config.name}: {name} is {above:+.1%} from the authors'"
    return None


def main(_) -> None:
    jax.config.update("jax_num_cpu_devices", torch.get_num_threads())
    jax.monitoring.register_event_duration_secs_listener(_listen)
    print("| network | attack | robust: authors | ours | digits that differ |", end="")
    print(" seconds: authors | ours |\n|---|---|---|---|---|---|---|")
    broken = []
    for workdir in _RUNS.value:
        run = advloss.load_run(workdir)
        test = load_data(run.config).test
        split = Split(*(array[: _EXAMPLES.value] for array in test))
        for attack in _ONLY.value or _COMPARISONS:
            broken.append(_compare(run, split, attack))
    if any(broken):
        sys.exit("\n".join(filter(None, broken)))


if __name__ == "__main__":
    app.run(main)
