"""Wrong keys and flags: one line that says what is valid, and nothing is touched.

What is refused before JAX is used is tried in this process, the rest as real launchers
in processes of their own, from a server that has imported the library.
"""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from made_launches import TRAIN, assert_refused, in_a_child, in_this_process

from advloss.cli import main
from advloss.errors import InputError

STUDY = ("study", "--config=configs/paper.py:smoke", "--workdir=W")
SWEEP = ("sweep", "--config=configs/lmcl_sweep.py", "--workdir=W")
HOST = (*TRAIN, "--workdir=W", "--process_count=2")
SECOND = (*HOST, "--process_index=1")
FLOAT32 = r"in float32, which goes from 1.2e-38 to 3.4e\+38"
WHOLE = "a whole number"
# (what is changed, what the line must say)
CONFIG_CASES = [
    ("name=", r"config.name='' .*1 to 40 printable"),
    ("name=../../x", r"config.name='../../x' .*without /"),
    ("name=a\\b", r"config.name='a.+b' .*without /"),
    ("name=.x", r"config.name='.x' .*no dot"),
    ("name=   ", r"config.name=' +' .*not only spaces"),
    ("name=é", r"config.name='é' .*printable ASCII"),
    ("name=a\nb", r"config.name='a.+b' .*printable ASCII"),
    # What ends a line, or turns it around, in the value and in the key.
    ("name=a\x85b", r"config.name='a\\x85b' .*printable ASCII"),
    ("name=a\u2028b", r"config.name='a\\u2028b' .*printable ASCII"),
    ("name=a\x1b[2Kb", r"config.name='a\\x1b\[2Kb' .*printable ASCII"),
    ("a\x85b=1", r"config.a\\x85b='1' is not a key"),
    ("a\u202eb=1", r"config.a\\u202eb='1' is not a key"),
    ("train.attack.name=a\x85b", r"defence.attack=a\\x85b"),
    ("seed=-1", rf"config.seed=-1 .*{WHOLE} from 0"),
    ("seed=one", rf"config.seed='one' .*{WHOLE} from 0"),
    ("seed=2147483648", r"config.seed=2147483648 .*to 2147483647"),
    ("seed=0.5", rf"config.seed='0.5' .*{WHOLE}"),
    ("seed=nan", rf"config.seed='nan' .*{WHOLE}"),
    ("seed=1e400", rf"config.seed='1e400' .*{WHOLE}"),
    ("seed=", rf"config.seed='' .*{WHOLE}"),
    ("seed=1/3", rf"config.seed='1/3' .*{WHOLE}"),
    ("seed=1/0", rf"config.seed='1/0' .*{WHOLE}"),
    ("seed=inf", rf"config.seed='inf' .*{WHOLE}"),
    ("seed=None", rf"config.seed='None' .*{WHOLE}"),
    ("seed=True", rf"config.seed='True' .*{WHOLE}"),
    ("seed=0x10", rf"config.seed='0x10' .*{WHOLE}"),
    ("seed=1,2", rf"config.seed='1,2' .*{WHOLE}"),
    (f"seed={5000 * '9'}", rf"config.seed='9+\.\.\. .*{WHOLE}"),
    ("seed=1e30", rf"config.seed=10+\d+ .*{WHOLE} from 0 to 2147483647"),
    ("loss.name=softmaxx", r"loss.name='softmaxx' .*lmcl, mmc, softmax_cross_entropy"),
    ("loss.margin=0.3", r"loss.margin=0.3 .*softmax_cross_entropy has no margin"),
    ("loss.scale=3.0", r"loss.scale=3.0 .*has no scale"),
    ("loss.marginn=0.3", r"loss.marginn='0.3' is not a key .*loss.margin"),
    ("loss.margin=", r"loss.margin='' .*finite number > 0"),
    ("loss=lmcl", r"config.loss='lmcl' .*this section, such as config.loss.name"),
    ("loss.name.x=1", r"config.loss.name.x='1' is not a key"),
    (
        "defence.name=trade",
        r"defence.name='trade' .*adversarial, alp, atta, distillation, free",
    ),
    ("defence.attack=carlini_l2", r"defence.attack='carlini_l2' .*fgsm"),
    ("defence.attack=none", r"defence.attack='none' .*fgsm"),
    ("data.source=cifar", r"data.source='cifar' .*idx, mnist_5k, npz, tfds"),
    ("data.source=a.b", r"data.source='a.b' .*PACKAGE.MODULE:NAME of your own"),
    ("data.source=a.b:", r"data.source='a.b:' .*PACKAGE.MODULE:NAME of your own"),
    ("data.source=:f", r"data.source=':f' .*PACKAGE.MODULE:NAME of your own"),
    ("data.num_classes=1", rf"data.num_classes=1 .*{WHOLE} from 2"),
    ("model.name=resnet", r"model.name='resnet' .*mlp.*table1"),
    ("model.name=nets:", r"model.name='nets:' .*or PACKAGE.MODULE:NAME of your own"),
    ("model.depth=27", r"model.depth=27 .*unset, as table1 with relu has no depth"),
    ("model.mean=half", r"model.mean=\('half',\) .*table1 with relu has no mean"),
    ("model.init=zeros", r"model.init='zeros' .*lecun, madry"),
    ("model.precision=fp8", r"model.precision='fp8' .*bfloat16, float32"),
    ("model.activation=relux", r"model.activation='relux' .*relu"),
    ("train.steps=0", rf"train.steps=0 .*{WHOLE} from 1"),
    ("train.steps=100000000", r"train.steps=100000000 .*less than 2\*\*31"),
    ("train.steps=1.5", rf"train.steps='1.5' .*{WHOLE}"),
    ("train.batch_size=0", rf"train.batch_size=0 .*{WHOLE} from 1"),
    ("train.learning_rate=0.0", r"train.learning_rate=0.0 .*finite number > 0"),
    ("train.learning_rate=nan", r"train.learning_rate=nan .*finite number > 0"),
    ("train.learning_rate=inf", r"train.learning_rate=inf .*finite number > 0"),
    ("train.learning_rate=fast", r"train.learning_rate='fast' .*finite number > 0"),
    ("train.learning_rate=1/0", r"train.learning_rate='1/0' .*finite number > 0"),
    ("train.learning_rate=1/", r"train.learning_rate='1/' .*finite number > 0"),
    ("train.learning_rate=/2", r"train.learning_rate='/2' .*finite number > 0"),
    ("train.learning_rate=1/2/3", r"train.learning_rate='1/2/3' .*finite number > 0"),
    ("train.learning_rate=1e-3,1", r"train.learning_rate='1e-3,1' .*finite number > 0"),
    ("train.learning_rate=None", r"train.learning_rate='None' .*finite number > 0"),
    ("train.learning_rate=True", r"train.learning_rate='True' .*finite number > 0"),
    ("train.learning_rate=0,001", r"train.learning_rate='0,001' .*finite number > 0"),
    # In float32, in which all is computed, they are 0, infinite or 1.
    ("train.learning_rate=1e-50", rf"rate=1e-50 .* > 0; 1e-50 is 0 {FLOAT32}"),
    ("train.learning_rate=1e-320", rf"rate=1e-320 .* is 0 {FLOAT32}"),
    ("train.learning_rate=1e300", rf"rate=1e\+300 .* is inf {FLOAT32}"),
    ("train.learning_rate=1/1e60", rf"rate=1.\d+e-60 .* is 0 {FLOAT32}"),
    ("train.weight_decay=1e-40", rf"weight_decay=1e-40 .*>= 0; 1e-40 is 0 {FLOAT32}"),
    ("train.clip_norm=1e39", rf"clip_norm=1e\+39 .* is inf {FLOAT32}"),
    ("train.momentum=0.9999999999", rf"\[0, 1\); 0.9999999999 is 1 {FLOAT32}"),
    ("train.average=0.9999999999", rf"\[0, 1\); 0.9999999999 is 1 {FLOAT32}"),
    ("train.attack.epsilon=1e-50", rf"\[0, 1\]; 1e-50 is 0 {FLOAT32}"),
    ("train.attack.warmup=1e-99", rf"\[0, 1\]; 1e-99 is 0 {FLOAT32}"),
    ("evaluate.pgd.epsilon=1e-50", rf"evaluate.pgd.epsilon=1e-50 .* is 0 {FLOAT32}"),
    ("evaluate.pgd.objective_scale=1e300", rf"scale=1e\+300 .* is inf {FLOAT32}"),
    ("train.schedule=step", r"train.schedule='step' .*constant, cosine"),
    ("train.milestones=0.9,0.1", r"train.milestones=\(0.9, 0.1\) .*growing"),
    ("train.milestones=1/2,1/3", r"train.milestones=\(0.5, 0.33\d+\) .*growing"),
    ("train.milestones=(1/2,1/2)", r"train.milestones=\(0.5, 0.5\) .*growing"),
    ("train.milestones=nan", r"train.milestones=\(nan,\) .*growing"),
    ("train.milestones=x", r"train.milestones=\('x',\) .*growing"),
    ("train.optimiser=lion", r"train.optimiser='lion' .*adam, sgd"),
    ("train.momentum=1.0", r"train.momentum=1.0 .*\[0, 1\)"),
    ("train.weight_decay=-1", r"train.weight_decay=-1.0 .*>= 0"),
    ("train.clip_norm=-1", r"train.clip_norm=-1.0 .*>= 0"),
    ("train.average=1.0", r"train.average=1.0 .*\[0, 1\)"),
    ("train.chunk_steps=0", rf"train.chunk_steps=0 .*{WHOLE} from 1"),
    ("train.checkpoint_every=75", r"checkpoint_every=75 .*multiple of train.chunk"),
    ("train.augment.names=crop,rotate", r"augment.names=.*rotate.* crop, cutout, flip"),
    ("train.augment.names=flip,flip", r"augment.names=.* each once, of crop, cutout"),
    ("train.augment.names=", r"augment.names=\('',\) .*none, or each once"),
    ("train.augment.padding=4", r"padding=4 .*augment.names=\(\) has no padding"),
    ("train.augment.size=0", r"augment.size=0 .*names=\(\) has no size"),
    ("train.attack.objective=l2", r"train.attack.objective='l2' .*margin"),
    ("train.attack.epsilon=-0.1", r"train.attack.epsilon=-0.1 .*\[0, 1\]"),
    ("train.attack.epsilon=76.5", r"train.attack.epsilon=76.5 .*\[0, 1\]"),
    ("train.attack.epsilon=8/2", r"train.attack.epsilon=4.0 .*\[0, 1\]"),
    ("train.attack.epsilon=nan", r"train.attack.epsilon=nan .*\[0, 1\]"),
    ("train.attack.step_size=2.0", r"train.attack.step_size=2.0 .*\[0, 1\]"),
    ("train.attack.steps=-1", rf"train.attack.steps=-1 .*{WHOLE} from"),
    ("train.attack.warmup=1.5", r"train.attack.warmup=1.5 .*\[0, 1\]"),
    ("train.attack.random_start=maybe", r"random_start='maybe' .*True or False"),
    ("train.attack.draws=5", r"train.attack.draws=5 .*pgd has no draws"),
    ("evaluate.attacks=", r"evaluate.attacks=.*one or more of"),
    ("evaluate.attacks=pgd,fabb", r"evaluate.attacks=.*fabb.*carlini_l0"),
    ("evaluate.attacks=(1,2)", r"evaluate.attacks=\(1, 2\) .*carlini_l0"),
    ("evaluate.attacks=None", r"evaluate.attacks=\('None',\) .*carlini_l0"),
    ("evaluate.attacks={}", r"evaluate.attacks=\('{}',\) .*carlini_l0"),
    ("evaluate.attacks=strong_linf", r"evaluate.attacks=.*strong_l2"),
    ("evaluate.attacks=(pgd,", r"evaluate.attacks=\('\(pgd', ''\) .*carlini_l0"),
    ("evaluate.batch_size=0", rf"evaluate.batch_size=0 .*{WHOLE} from 1"),
    ("evaluate.examples=-5", rf"evaluate.examples=-5 .*{WHOLE} from 0"),
    ("evaluate.seed=-1", rf"evaluate.seed=-1 .*{WHOLE} from 0"),
    ("evaluate.survivors_only=perhaps", r"survivors_only='perhaps' .*True or False"),
    ("evaluate.pgd.restarts=0", rf"evaluate.pgd.restarts=0 .*{WHOLE} from 1"),
    ("evaluate.pgd.objective_scale=0.0", r"objective_scale=0.0 .*> 0"),
    ("evaluate.pgd.steps=-1", rf"evaluate.pgd.steps=-1 .*{WHOLE} from"),
    ("evaluate.carlini_l0.confidence=nan", r"confidence=nan .*\[0, 1e\+06\]"),
    ("evaluate.noise.draws=0", rf"evaluate.noise.draws=0 .*{WHOLE} from 1"),
    ("evaluate.pgd.random_start=2", r"random_start='2' .*True or False"),
    ("evaluate.pgd.random_start=None", r"random_start='None' .*True or False"),
    ("train=5", r"config.train='5' .*this section, such as config.train.steps"),
    ("train.attack=pgd", r"config.train.attack='pgd' .*this section"),
    ("evaluate.pgd=5", r"config.evaluate.pgd='5' .*this section"),
    ("SEED=5", r"config.SEED='5' is not a key .*seed"),
    ("seed.=5", r"config.seed.='5' is not a key"),
    (".seed=5", r"config..seed='5' is not a key"),
    ("train/steps=5", r"config.train/steps='5' is not a key .*train.steps"),
    ("__class__=5", r"config.__class__='5' is not a key"),
    ("train.__dict__=5", r"config.train.__dict__='5' is not a key"),
    ("to_dict=5", r"config.to_dict='5' is not a key"),
    ("=5", r"config.='5' is not a key"),
    ("..=5", r"config...='5' is not a key"),
    # As they were called in version 0.1.
    ("train.attack.name=", r"train.attack.name='' .*defence.attack=pgd"),
    ("train.attack.name=none", r"train.attack.name='none' .*defence.name=natural"),
    ("train.attack.name=pgd", r"train.attack.name='pgd' .*defence.attack=pgd"),
    ("evaluate.fgs.epsilon=0.1", r"evaluate.fgs.epsilon=.*use evaluate.fgsm.epsilon"),
    ("evaluate.penalty.c=1", r"evaluate.penalty.c=.*use evaluate.lbfgs.c"),
    ("evaluate.worst_only=true", r"worst_only='true' .*use evaluate.survivors_only"),
    ("model.init=challenge", r"model.init='challenge' .*use 'madry'"),
    ("evaluate.pgd.objective=lead", r"objective='lead' .*use 'margin'"),
    ("evaluate.attacks=fgs", r"evaluate.attacks=\('fgs',\) .*use 'fgsm'"),
    ("evaluate.attacks=pgd,penalty", r"evaluate.attacks=.*use 'lbfgs'"),
]
FLAG_CASES = [
    (("train", "--workdir=W"), r"--config is missing: name a file"),
    (("train", "--workdir=W", "--config"), r"--config is missing: name a file"),
    (("train", "--workdir=W", "--config="), r"--config is missing: name a file"),
    (("train", "--config=configs/default.py"), r"--workdir is missing"),
    (("train", "--config=configs/default.py", "--workdir="), r"--workdir is missing"),
    (("train", "--config=configs/default.py", "--workdir"), r"workdir"),
    (("train", "--config=configs/none.py", "--workdir=W"), r"configs/none.py.*No such"),
    (("train", "--config=configs", "--workdir=W"), r"--config=configs .*regular file"),
    (("train", "--config=README.md", "--workdir=W"), r"--config=README.md .*Python"),
    (("train", "--config=configs/quickstart.py:x", "--workdir=W"), r"x: use one of"),
    ((*TRAIN, "--workdir=W", "extra"), r"'extra' is not a flag"),
    ((*TRAIN, "--workdir=W", "--devces=2"), r"--devces is not a flag.*--devices"),
    ((*TRAIN, "--workdir=W", "-devces"), r"--devces is not a flag.*--devices"),
    ((*TRAIN, "--workdir=W", "--runs=x"), r"--runs is not a flag.*--workdir"),
    ((*TRAIN, "--workdir=W", "--report_only"), r"--report_only is not a flag"),
    ((*TRAIN, "--workdir=W", "--nodevices"), r"--nodevices is not a flag"),
    ((*TRAIN, "--workdir=W", "--no"), r"--no is not a flag"),
    ((*TRAIN, "--workdir=W", "--undefok=devces"), r"--undefok is not a flag"),
    ((*TRAIN, "--workdir=W", "--flagfile=x"), r"--flagfile is not a flag"),
    ((*TRAIN, "--workdir=W", "--helpfull"), r"--helpfull is not a flag"),
    ((*TRAIN, "--workdir=W", "--workdir.x=1"), r"--workdir.x is not a flag"),
    ((*TRAIN, "--workdir=W", "--a\x85b=1"), r"--a\\x85b is not a flag"),
    ((*TRAIN, "--workdir=W", "--=1"), r"'--=1' is not a flag"),
    ((*TRAIN, "--workdir=W", "--", "x"), r"'--' is not a flag"),
    ((*TRAIN, "--workdir=W", "--config.seed"), rf"config.seed='true' .*{WHOLE}"),
    ((*TRAIN, "--workdir=W", "--noconfig.seed"), rf"config.seed='false' .*{WHOLE}"),
    ((*TRAIN, "--workdir=W", "--noconfig.seed=1"), r"--noconfig.seed is not a flag"),
    # Of two the last would win without a word.
    ((*TRAIN, "--workdir=W", "--workdir=W"), r"--workdir is given twice"),
    ((*TRAIN, "--workdir=W", "--devices=2"), r"--devices is given twice"),
    ((*TRAIN, "--workdir=W", "--config=W.py"), r"--config is given twice"),
    (
        (*TRAIN, "--workdir=W", "--config.seed=1", "--config.seed=2"),
        r"config.seed is given twice, as '1' and '2'",
    ),
    ((*TRAIN[:2], "--workdir=W", "--devices=0"), r"--?devices"),
    ((*TRAIN[:2], "--workdir=W", "--devices=x"), r"devices"),
    ((*TRAIN[:2], "--workdir=W", "--devices=100000"), rf"devices=.*{WHOLE} .* 1024"),
    ((*TRAIN[:2], "--workdir=W", "--devices="), rf"--devices='' .*{WHOLE} from 1"),
    ((*TRAIN[:2], "--workdir=W", "--devices"), rf"--devices='' .*{WHOLE} from 1"),
    ((*TRAIN[:2], "--workdir=W", "--devices=1.5"), rf"--devices='1.5' .*{WHOLE}"),
    ((*TRAIN[:2], "--workdir=W", f"--devices={5000 * '9'}"), r"--devices='9+\.\.\. "),
    ((*TRAIN, "--workdir=W", "--process_count=0"), rf"--process_count='0' .*{WHOLE}"),
    ((*TRAIN, "--workdir=W", "--process_index=-1"), rf"--process_index='-1' .*{WHOLE}"),
    ((*TRAIN, "--workdir=W", "--distributed=maybe"), r"distributed=.*True or False"),
    ((*TRAIN, "--workdir=s3://bucket/x"), r"--workdir=s3://bucket/x .*this machine"),
    ((*TRAIN, "--workdir=file:///x"), r"--workdir=file:///x .*this machine"),
    ((*TRAIN, "--workdir=//tmp/x"), r"--workdir=//tmp/x .*this machine"),
    ((*TRAIN, "--workdir=/tmp/gs:/x"), r"--workdir=/tmp/gs:/x .*this machine"),
    ((*TRAIN, f"--workdir=/tmp{20 * ('/' + 199 * 'z')}"), r"at most 3800 bytes"),
    ((*TRAIN, "--workdir=~/x"), r"--workdir=~/x .*write out what ~ stands for"),
    ((*TRAIN, "--workdir=~nobody"), r"--workdir=~nobody .*write out"),
    ((*TRAIN, "--workdir=W\x85x"), r"--workdir=.*W\\x85x .*control characters"),
    ((*TRAIN, "--workdir=W\\x"), r"--workdir=.*use a path without \\"),
    ((*TRAIN, "--workdir=W\udcff"), r"--workdir=.*UTF-8"),
    ((*TRAIN, "--workdir=W\nx"), r"--workdir=.*control characters"),
    ((*TRAIN, "--workdir=   "), r"--workdir= +is not valid: name a folder"),
    ((*TRAIN, "--workdir=/dev/null/x"), r"/dev/null is not a folder"),
    ((*TRAIN, "--workdir=W.py"), r"W.py is not a folder"),
    ((*TRAIN, "--workdir=W.py/x"), r"W.py is not a folder"),
    (("evaluate", "--workdir=W"), r"W holds no run.*train"),
    (("evaluate", "--workdir=W.py"), r"W.py is not a folder"),
    (("evaluate",), r"--workdir is missing"),
    (("report", "--workdir=W"), r"--runs is missing"),
    (("report", "--workdir=W", "--runs="), r"--runs is missing"),
    (("report", "--workdir=W", "--runs=,,"), r"--runs is missing"),
    (("report", "--workdir=W", "--runs=a,,b"), r"--runs= is not valid: name a folder"),
    (("report", "--runs=W"), r"--workdir is missing"),
    (("report", "--runs=W", "--workdir=W.py"), r"W.py is not a folder"),
    (("report", "--runs=W", "--workdir=W", "--config=x"), r"--config is not a flag"),
    (("report", "--runs=W", "--workdir=W", "--config.seed=1"), r"--config.seed is not"),
    (("report", "--runs=W", "--workdir=W", "--devices=1"), r"--devices is not a flag"),
    (("report", "--runs=~/x", "--workdir=W"), r"--runs=~/x .*write out"),
    (
        ("report", "--runs=W", "--workdir=W", "--overwrite=maybe"),
        r"--overwrite=.maybe. .*True or False",
    ),
    (("report", "--runs=gs://x", "--workdir=W"), r"--runs=gs://x .*this machine"),
    (("report", "--runs=W.py", "--workdir=W"), r"W.py is not a folder"),
    (("report", "--runs=W", "--runs=W", "--workdir=W"), r"--runs is given twice"),
    (("report", "--runs=x,./x/", "--workdir=W"), r"--runs=x .*x is the same run"),
    (
        ("diagnose", "--workdir=W", "--config=configs/default.py", "--surrogates=W"),
        r"--surrogates=.*W is not valid: .*W is the run itself",
    ),
    (
        (
            "diagnose", "--workdir=W", "--config=configs/default.py",
            "--surrogates=a,./a",
        ),
        r"--surrogates=a is not valid: a is the same run; name each once",
    ),
    (
        (
            "diagnose", "--workdir=W", "--config=configs/default.py",
            "--config.evaluate.pgd.restarts=3",
        ),
        r"evaluate.pgd.restarts='3' .* one of evaluate.examples, .*pgd.step_size",
    ),
    (("export", "--workdir=W"), r"--to is missing"),
    (("export", "--to=W"), r"--workdir is missing"),
    (("export", "--workdir=W", "--to=X"), r"W holds no run"),
    (("export", "--workdir=W", "--to=~/x"), r"--to=~/x .*write out"),
    (("export", "--workdir=W", "--to=W.py"), r"--to=.*W.py is not a folder"),
    (("export", "--workdir=W", "--to=X", "--runs=W"), r"--runs is not a flag"),
    (("export", "--workdir=W", "--to=X", "--devices=1"), r"--devices is not a flag"),
    (("export", "--workdir=W", "--to=X", "--dataset=A/B"), r"--dataset='A/B' .*mnist"),
    (("export", "--workdir=W", "--to=X", "--reported=101"), r"--reported='101' .*100"),
    (
        ("export", "--workdir=W", "--to=X", "--additional_data=maybe"),
        r"--additional_data='maybe' .*True or False",
    ),
    (("evaluate", "--workdir=W", "--config.x=1"), r"W holds no run"),
    (("evaluate", "--workdir=W", "--config="), r"--config is missing: name a file"),
    (("evaluate", "--workdir=W", "--config=configs/none.py"), r"none.py.*No such"),
    (("evaluate", "--workdir=~/x"), r"--workdir=~/x .*write out"),
    (("evaluate", "--workdir=W", "pgd"), r"'pgd' is not a flag"),
    (("quickstart", "--workdir=W", "lmcl"), r"'lmcl' is not a flag"),
    (("quickstart", "--workdir=W", "--config.seed=1"), r"--config.seed is not a flag"),
    (("quickstart", "--workdir=~/x"), r"--workdir=~/x .*write out"),
    (("quickstart",), r"--workdir is missing"),
    (("quickstart", "--workdir=W\\x"), r"use a path without \\"),
    (("study", "--config=configs/default.py", "--workdir=W"), r"is no study"),
    (("study", "--config=configs/paper.py:tiny", "--workdir=W"), r"tiny: use one of"),
    ((*STUDY, "--config.seeds=0"), rf"config.seeds=0 .*{WHOLE} from 1 to 625"),
    ((*STUDY, "--config.seeds=1000000000"), r"seeds=10+ .* from 1 to 625"),
    ((*STUDY, "--config.seeds=None"), rf"config.seeds='None' .*{WHOLE}"),
    ((*STUDY, "--config.seeds=1.5"), rf"config.seeds='1.5' .*{WHOLE}"),
    ((*STUDY, "--config.seed=5"), r"config.seed=5 .*config.seeds"),
    ((*STUDY, "--config.networks=5"), r"config.networks=\(5,?.*each name once"),
    ((*STUDY, "--config.networks=a,5"), r"config.networks=.*each name once"),
    ((*STUDY, "--config.networks=a seed=1,b"), r"config.networks='seed=1' .*seeds"),
    ((*STUDY, "--config.networks=a name=b,b"), r"config.networks='name=b' .*names"),
    (
        (*STUDY, "--config.networks=a train.steps=40 train.steps=20"),
        r"config.train.steps is given twice, as '40' and '20'",
    ),
    ((*STUDY, "--config.networks=a loss.margin=1e-50"), r"config.loss.margin=1e-50"),
    ((*STUDY, "--config.parts={}"), r"config.parts=.*table1"),
    ((*STUDY, "--config.sweep=seed=1"), r"config.sweep='seed=1' is not a key"),
    ((*STUDY, "--report_only=maybe"), r"--report_only='maybe' .*True or False"),
    ((*STUDY, "--config.seeds=many"), r"config.seeds='many' "),
    ((*STUDY, "--config.parts=table9"), r"config.parts=.*table9.*table1"),
    ((*STUDY, "--config.networks=a,a"), r"config.networks=.*each name once"),
    ((*STUDY, "--config.networks="), r"config.networks=.*each name once"),
    ((*STUDY, "--config.networks=a x=1"), r"config.x='1' is not a key"),
    ((*STUDY, "--config.networks=a loss.name"), r"config.networks=.*KEY=VALUE"),
    ((*STUDY, "--config.networks=a loss.name=b"), r"config.loss.name='b' .*lmcl"),
    ((*STUDY, "--config.networks=../a"), r"config.name='../a' .*without /"),
    (("sweep", "--config=configs/default.py", "--workdir=W"), r"no sweep"),
    (("sweep", "--config=configs/lmcl_sweep.py:x", "--workdir=W"), r"x: use one of"),
    ((*SWEEP, "--config.sweep=loss.margin=2"), r"config.loss.margin=2.* .*1.111"),
    ((*SWEEP, "--config.sweep=margin"), r"config.sweep='margin' .*KEY=VALUE"),
    ((*SWEEP, "--config.sweep="), r"config.sweep='' .*names no key"),
    ((*SWEEP, "--config.sweep=seed=0,0"), r"config.sweep=.*named twice"),
    ((*SWEEP, "--config.sweep=x=1"), r"config.x='1' is not a key"),
    ((*SWEEP, "--config.sweep=0\x85=0"), r"config.0\\x85='0' is not a key"),
    ((*SWEEP, "--config.sweep=\u2028"), r"config.sweep='.u2028' .*it names no key"),
    ((*SWEEP, "--config.sweep=loss.margin=1/0"), r"loss.margin='1/0' .*finite number"),
    ((*SWEEP, "--config.sweep=loss.margin=1/2,0.5"), r"config.sweep=.*named twice"),
    ((*SWEEP, "--config.sweep=loss.margin=1e-50"), rf"margin=1e-50 .*{FLOAT32}"),
    ((*SWEEP, "--config.sweep=seed=8/255"), rf"config.seed='8/255' .*{WHOLE}"),
    ((*SWEEP, "--config.sweep=seed=0;1"), rf"config.seed='0;1' .*{WHOLE}"),
    ((*SWEEP, "--config.sweep=seed=0..9"), rf"config.seed='0..9' .*{WHOLE}"),
    ((*SWEEP, "--config.sweep=seed=0 --x"), r"config.sweep=.*'--x' is not of the form"),
    ((*SWEEP, "--config.sweep=train.attack.name="), r"config.sweep=.*KEY=VALUE"),
    ((*SWEEP, "--config.sweep=loss=1"), r"config.loss='1' is not a key"),
    ((*SWEEP, "--config.sweep=evaluate.attacks=(pgd"), r"a bracket .*not closed"),
    (
        (*SWEEP, f"--config.sweep=seed={','.join(map(str, range(20_000)))}"),
        r"config.sweep='.{199}\.\.\. is not valid: it has more than 5000 runs",
    ),
    (
        (*SWEEP, f"--config.sweep={' '.join(10 * ['train.steps=1,2,3'])}"),
        r"config.sweep=.*named twice",
    ),
    ((*SWEEP, "--config.seeds=3"), r"config.seeds='3' is not a key"),
    ((*SWEEP, "--config.sweep=seed={},{}"), r"config.(seed|sweep)="),
    ((*SWEEP, "--config.sweep=name=a,b"), r"name is made of its values"),
    (("keys", "no-such-word"), r"no key has 'no-such-word'"),
    (("keys", "--workdir=W"), r"--workdir is not a flag of this command: use words"),
    (("keys", "--config.seed=1"), r"--config.seed is not a flag"),
    (("keys", "a\x85b"), r"no key has 'a\\x85b'"),
]  # fmt: skip
# Of these JAX is used before they are refused.
LATE_CASES = [
    ((*TRAIN[:2], "--workdir=W", "--devices=3"), r"batch_size=50 .*multiple of the 3"),
    ((*TRAIN, "--workdir=W", "--process_count=2"), r"--coordinator.* go together"),
    ((*TRAIN, "--workdir=W", "--distributed"), r"--distributed: .*can't be joined"),
    ((*SECOND, "--coordinator=h"), r"--coordinator=h is not valid: use HOST:PORT"),
    ((*SECOND, "--coordinator="), r"--coordinator= is not valid: use HOST:PORT"),
    ((*SECOND, "--coordinator=:1"), r"--coordinator=:1 is not valid: use HOST:PORT"),
    ((*SECOND, "--coordinator=h:65536"), r"--coordinator=h:65536 .* 1 to 65535"),
    ((*SECOND, f"--coordinator=h:{5000 * '9'}"), r"--coordinator=h:9+ .* 1 to 65535"),
    ((*SECOND, "--coordinator=h\x85:x"), r"--coordinator=h\\x85:x .*HOST:PORT"),
    ((*SECOND, "--coordinator=no.such.host:1"), r"no.such.host:1 can't be reached"),
    ((*HOST, "--coordinator=no.such.host:1", "--process_index=0"), r"can't be reached"),
    ((*HOST, "--coordinator=h:1", "--process_index=2"), r"--process_index=2 .*0 to 1"),
]
# What the environment may be when a command is started, and what is said of it.
ENVIRONMENTS = [
    ({"JAX_ENABLE_X64": "maybe"}, r"JAX_ENABLE_X64"),
    ({"JAX_NUM_CPU_DEVICES": "four"}, r"JAX_NUM_CPU_DEVICES=four"),
    ({"JAX_PLATFORMS": "cuda"}, r"JAX_PLATFORMS=cuda"),
    ({"JAX_PLATFORM_NAME": "gpu"}, r"JAX_PLATFORM_NAME=gpu: JAX has no devices"),
]


@pytest.fixture
def run(monkeypatch, capfd):
    return in_this_process(monkeypatch, capfd)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return in_a_child(tmp_path_factory)


def _in(folder, arguments):
    """Arguments in which W is a path in that folder, and W.py a file there."""
    (folder / "W.py").write_text("raise RuntimeError('W.py has a bug')\n")
    return [re.sub(r"=W\b", lambda _: f"={folder / 'W'}", a) for a in arguments]


@pytest.mark.parametrize(("change", "said"), CONFIG_CASES)
def test_a_wrong_value(run, tmp_path, change, said):
    arguments = [*TRAIN, f"--workdir={tmp_path / 'run'}", f"--config.{change}"]
    assert_refused(run, arguments, said, tmp_path)


@pytest.mark.parametrize(("arguments", "said"), FLAG_CASES)
def test_wrong_flags(run, tmp_path, arguments, said):
    assert_refused(run, _in(tmp_path, arguments), said, tmp_path)


@pytest.mark.parametrize(("arguments", "said"), LATE_CASES)
def test_wrong_devices_and_hosts(start, tmp_path, arguments, said):
    assert_refused(start, _in(tmp_path, arguments), said, tmp_path)


def test_a_folder_that_is_gone(run, tmp_path, monkeypatch, capfd):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(main.terminal, "prepare", lambda: None)
    for start in (main.main, lambda: main.launch("train")):
        with pytest.raises(SystemExit) as ended:
            start()
        said = capfd.readouterr().err
        assert (ended.value.code, len(said.splitlines())) == (2, 1)
        assert said.startswith("error: the folder that this command was given in is ")


def test_a_quickstart_away_from_its_configs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = r"configs/quickstart.py is not here"
    assert_refused(run, ["quickstart", "--workdir=run"], said, tmp_path)


@pytest.mark.parametrize(("environment", "said"), ENVIRONMENTS)
def test_a_wrong_environment(tmp_path, environment, said):
    def call(arguments):
        command, *rest = arguments
        done = subprocess.run(
            [sys.executable, "-B", "-m", f"experiments.{command}", *rest],
            cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        return done.returncode, done.stderr

    assert_refused(call, [*TRAIN, f"--workdir={tmp_path}/run"], said, tmp_path)


def test_a_path_that_the_locale_has_not(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    arguments = [*TRAIN, f"--workdir={tmp_path / 'é'}"]
    assert_refused(run, arguments, r"--workdir=.*é .*set PYTHONUTF8=1", tmp_path)


def test_whatever_an_error_quotes_it_is_one_line():
    text = "".join(map(chr, range(0x3000)))
    assert len(text.splitlines()) > 5
    assert len(str(InputError(text)).splitlines()) == 1
    assert str(InputError("a path/é 'ε=0.1'")) == "a path/é 'ε=0.1'"
