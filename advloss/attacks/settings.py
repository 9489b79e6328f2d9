"""Settings that several attacks share, and their defaults in each norm."""

from typing import Any

from advloss.losses import OBJECTIVES, TARGETED
from advloss.registry import Setting, boolean, choice, number, positive, whole

# The largest radii: in l-inf the farthest corner of [0, 1]^n is 1 away.
_FARTHEST = {"linf": 1, "l2": 100, "l1": 10_000, "l0": 10_000}
_EPSILON = {"linf": 0.3, "l2": 2.0, "l1": 10.0, "l0": 25.0}
_STEP_SIZE = {"linf": 0.01, "l2": 0.1}


def objective(default: str = "training") -> dict[str, Setting]:
    """What an attack climbs away from the true class."""
    return {
        "objective": Setting(
            default,
            choice(OBJECTIVES),
            "what it climbs: training (the network's own loss), margin, dlr, or a loss",
        ),
        "objective_scale": Setting(
            1.0, positive(), "by which the logits are multiplied first"
        ),
    }


def epsilon(norm: str) -> dict[str, Setting]:
    """The radius in a norm: of MNIST."""
    return {
        "epsilon": Setting(
            _EPSILON[norm],
            number(0, _FARTHEST[norm]),
            f"the radius in {norm}, in units of pixel value"
            if norm != "l0"
            else "the radius in pixels",
            swept=True,
        )
    }


def of_epsilon(default: float, what: str) -> Setting:
    """A length that goes with the radius."""
    return Setting(default, number(0, 100), f"the length of {what}, in epsilons")


def steps(count: int) -> dict[str, Setting]:
    """How many iterations."""
    return {"steps": Setting(count, whole(), "iterations")}


def random_start(default: bool = True) -> dict[str, Setting]:
    """Whether it begins elsewhere than at the image."""
    text = "start at a random point of the ball"
    return {"random_start": Setting(default, boolean(), text)}


def restarts(default: int = 1) -> dict[str, Setting]:
    """How often it starts."""
    text = "starts, of which each example's best counts"
    return {"restarts": Setting(default, whole(1), text)}


def ball(norm: str) -> dict[str, Setting]:
    """Steps of one length from a random start."""
    return {
        **epsilon(norm),
        "step_size": Setting(
            _STEP_SIZE[norm],
            number(0, _FARTHEST[norm]),
            f"the length of a step in {norm}",
            swept=True,
        ),
        **steps(100),
        **random_start(),
    }


def training(norm: str) -> dict[str, Any]:
    """Of `ball`, five steps of half the radius: what trains needs no more."""
    return {"steps": 5, "step_size": _EPSILON[norm] / 2}


def targeted_loss(default: str) -> dict[str, Setting]:
    """What an attack climbs towards one class."""
    text = "what it climbs towards each class"
    return {"loss": Setting(default, choice(TARGETED), text)}


def target_classes(count: int = 9) -> dict[str, Setting]:
    """How many classes are aimed at."""
    text = "wrong classes that are aimed at, the most likely first"
    return {"target_classes": Setting(count, whole(1), text)}


def square(norm: str) -> dict[str, Setting]:
    """Random search."""
    return {
        **objective("margin"),
        **epsilon(norm),
        "queries": Setting(5000, whole(1), "images that are tried"),
        "p_init": Setting(
            0.8, number(0, 1, above=True), "the share that the first squares cover"
        ),
    }


def fab(norm: str) -> dict[str, Setting]:
    """Projections on linearised boundaries."""
    return {
        **epsilon(norm),
        **steps(100),
        "alpha_max": Setting(
            0.1, number(0, 1), "the largest weight of the original's projection"
        ),
        "eta": Setting(1.05, positive(), "how far to go, 1 being to the boundary"),
        "beta": Setting(
            0.9, number(0, 1), "the share of its change that what fools keeps"
        ),
        "radius": Setting(
            _EPSILON[norm],
            number(0, _FARTHEST[norm]),
            f"restarts begin at most half as far away, in {norm}",
        ),
    }


def carlini(norm: str, initial_constant: float, **settings: Setting) -> dict[str, Any]:
    """Settings of Carlini and Wagner's attacks, and one's own."""
    return {
        **epsilon(norm),
        "confidence": Setting(
            0.0, number(0, 1e6), "by how much, in logits, the wrong class must lead"
        ),
        "learning_rate": Setting(1e-2, positive(), "Adam's"),
        "initial_constant": Setting(
            initial_constant, positive(), "the first weight of the margin"
        ),
        **settings,
    }


def adaptive(norm: str, **settings: Setting) -> dict[str, Setting]:
    """Settings of attacks with a radius of each example, and one's own."""
    return {
        **epsilon(norm),
        **steps(100),
        "step_size": Setting(1.0, positive(), "the length of the first step in l2"),
        "gamma": Setting(
            0.05, number(0, 1), "by which share the radius changes in a step"
        ),
        **settings,
    }
