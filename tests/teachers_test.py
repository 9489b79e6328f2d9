"""A student's teacher: where it lies, whose it is, and what it must have been."""

import json

import jax
import pytest
from made_defences import configure

from advloss import config as configs
from advloss.errors import InputError
from advloss.runtime import checkpoints, files
from advloss.training import run
from advloss.training import workdir as folders

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture
def config(small_config):
    small_config.train.attack.epsilon = 0.1
    return small_config


def test_a_teacher_is_trained_first_and_stays_the_same(config, tmp_path):
    """At the same temperature; its digest is the student's, wherever it lies."""
    config = configure(config, "distillation", **{"defence.temperature": 5.0})
    devices, student = jax.devices()[:1], tmp_path / "student"
    run.train_runs([config], [student], devices)
    teacher = folders.load_run(student / "teacher")
    assert teacher.config.defence.name == "natural"
    assert teacher.config.defence.temperature == 5.0
    assert teacher.config.name == f"{config.name} teacher"
    noted = json.loads((student / "data.json").read_text())
    assert noted["teacher"] == files.digest(teacher.variables)
    # Another student of the same teacher, named.
    other = config.copy_and_resolve_references()
    other.defence.teacher, other.seed = str(tmp_path / "moved"), 1
    (student / "teacher").rename(tmp_path / "moved")
    run.train_runs([other], [tmp_path / "other"], devices)
    assert not (tmp_path / "other" / "teacher").exists()
    # Without its teacher's folder, the student's own command would make it anew.
    again = config.copy_and_resolve_references()
    again.defence.teacher = str(tmp_path / "moved")
    run.train_runs([again], [student], devices)
    run.train_runs([config], [student], devices)
    # The network of another training is refused.
    again.defence.teacher = str(tmp_path / "other")
    with pytest.raises(
        InputError, match=r"config.defence.teacher=.*: the teacher is no"
    ):
        run.train_runs([again], [student], devices)
    again.defence.teacher = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"defence.teacher=.*nowhere holds no run"):
        run.train_runs([again], [student], devices)
    other.model.name, other.defence.teacher = "mlp", str(tmp_path / "moved")
    other = configs.resolve(other)
    if teacher.config.model.name != "mlp":
        with pytest.raises(InputError, match=r"a network of another form: teacher and"):
            run.train_runs([other], [tmp_path / "third"], devices)
    # Another function of the same parameters.
    other = again.copy_and_resolve_references()
    other.model.activation = "bounded_relu"
    other.defence.teacher = str(tmp_path / "moved")
    with pytest.raises(
        InputError, match=r"has config.model.activation='relu', and the run 'bounded"
    ):
        run.train_runs([configs.resolve(other)], [tmp_path / "third"], devices)
    assert not (tmp_path / "third").exists()
    with pytest.raises(
        InputError, match=r"loss.name='hinge' .*use one of softmax_cros"
    ):
        configure(config, "distillation", **{"loss.name": "hinge"})


def test_a_run_holds_its_folder_while_its_teacher_is_trained(config, tmp_path):
    other = configure(config.copy_and_resolve_references(), "natural")
    config = configure(config, "distillation")
    devices, workdir = jax.devices()[:1], tmp_path / "run"
    found = []

    def save(*arguments):
        with pytest.raises(InputError) as refused:
            run.train_runs([other], [workdir], devices)
        found.append(str(refused.value))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run.train_runs([config], [workdir], devices)
    assert "belongs to another config: defence.name: 'distillation'" in found[0]
    run.train_runs([config], [workdir], devices)
    assert (workdir / "teacher").exists()


def test_a_folder_named_teacher_is_only_a_student_s_own(config, tmp_path):
    (tmp_path / "run" / "teacher").mkdir(parents=True)
    (tmp_path / "run" / "teacher" / "thesis.tex").write_text("precious")
    for name in ("natural", "distillation"):
        own = configure(config.copy_and_resolve_references(), name)
        with pytest.raises(InputError, match=r"is not empty and holds no run"):
            run.train_runs([own], [tmp_path / "run"], jax.devices()[:1])


def test_another_teacher_of_its_own_is_told(config, tmp_path):
    """On another number of devices gradients are added in another order."""
    config, workdir = configure(config, "distillation"), tmp_path / "run"
    run.train_runs([config], [workdir], jax.devices()[:1])
    (workdir / "teacher").rename(tmp_path / "kept")
    with pytest.raises(InputError, match=r"run/teacher is not the one .*put that back"):
        run.train_runs([config], [workdir], jax.devices()[:2])
    (workdir / "teacher").rename(tmp_path / "anew")
    run.train_runs([config], [workdir], jax.devices()[:1])


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("~/x", r"config.defence.teacher=~/x is not valid: write out what ~"),
        ("gs://x/y", r"config.defence.teacher=.* use a folder of this machine"),
        ("z" * 4000, r"config.defence.teacher=z.* use a path of at most"),
    ],
)
def test_a_teacher_is_a_folder(config, tmp_path, teacher, said):
    config = configure(config, "distillation", **{"defence.teacher": teacher})
    with pytest.raises(InputError, match=said):
        run.train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    assert not (tmp_path / "run").exists()
