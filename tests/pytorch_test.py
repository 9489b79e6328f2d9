"""Weights of PyTorch networks: every name, and what the networks compute.

The referee is a forward pass in NumPy, written from PyTorch's names, layouts and rules;
where PyTorch is installed, it computes, too.
"""

import jax
import numpy as np
import pytest
import safetensors.numpy

import advloss
from advloss.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")
WIDE = {"depth": 10, "widen": 1}
RICE = {"shortcut": "activated", "final_norm": True}
WONG = {"shortcut": "input", "final_norm": False}


def _blocks(name):
    """Of each block its name, channels in and out, stride, and its shortcut's name."""
    if name == "wide_resnet":
        rows = [("block1", 16, 16, 1), ("block2", 16, 32, 2), ("block3", 32, 64, 2)]
        return [(f"{n}.layer.0", *rest, "convShortcut") for n, *rest in rows]
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    return [
        (f"layer{i // 2 + 1}.{i % 2}", *widths[i : i + 2], 1 + (i in (2, 4, 6)),
         "shortcut.0")
        for i in range(8)
    ]  # fmt: skip


def _weights(name, *, channels=3, classes=4, final_norm=True):
    """Random ones as PyTorch has them, by name; BN's are far from where they begin."""
    rng = np.random.default_rng(0)
    found = {}

    def norm(where, width):
        found[f"{where}.weight"] = rng.uniform(0.5, 1.5, width)
        found[f"{where}.bias"] = rng.normal(size=width) / 4
        found[f"{where}.running_mean"] = rng.normal(size=width) / 4
        found[f"{where}.running_var"] = rng.uniform(0.5, 2, width)
        found[f"{where}.num_batches_tracked"] = np.array(7)

    def conv(where, out, inside, size):
        shape = (out, inside, size, size)
        found[f"{where}.weight"] = rng.normal(size=shape) / np.sqrt(inside * size**2)

    wide = name == "wide_resnet"
    conv("conv1", 16 if wide else 64, channels, 3)
    for where, inside, out, stride, shortcut in _blocks(name):
        norm(f"{where}.bn1", inside)
        conv(f"{where}.conv1", out, inside, 3)
        norm(f"{where}.bn2", out)
        conv(f"{where}.conv2", out, out, 3)
        if stride > 1 or inside != out:
            conv(f"{where}.{shortcut}", out, inside, 1)
    if final_norm:
        norm("bn1" if wide else "bn", out)
    last = "fc" if wide else "linear"
    found[f"{last}.weight"] = rng.normal(size=(classes, out)) / np.sqrt(out)
    found[f"{last}.bias"] = rng.normal(size=classes)
    return {key: np.asarray(value, np.float32) for key, value in found.items()}


def _forward(name, weights, images, *, shortcut="activated", final_norm=True):
    """Logits in float64, of images [batch, height, width, channels]."""
    w = {key: value.astype(np.float64) for key, value in weights.items()}

    def conv(x, where, stride=1):
        kernel = w[f"{where}.weight"]
        size = kernel.shape[-1]
        pad = 2 * [(size // 2, size // 2)]
        x = np.pad(x, [(0, 0), (0, 0), *pad])
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
        windows = windows[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)

    def active(x, where):
        scale, bias, mean, var = (
            w[f"{where}.{leaf}"].reshape(-1, 1, 1)
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)

    x = conv(np.moveaxis(images.astype(np.float64), -1, 1), "conv1")
    for where, _, _, stride, called in _blocks(name):
        y = active(x, f"{where}.bn1")
        if f"{where}.{called}.weight" in w:
            x = conv(y if shortcut == "activated" else x, f"{where}.{called}", stride)
        y = active(conv(y, f"{where}.conv1", stride), f"{where}.bn2")
        x = x + conv(y, f"{where}.conv2")
    wide = name == "wide_resnet"
    if final_norm:
        x = active(x, "bn1" if wide else "bn")
    last = "fc" if wide else "linear"
    return x.mean((2, 3)) @ w[f"{last}.weight"].T + w[f"{last}.bias"]


def _images(size=8, count=2):
    return np.random.default_rng(1).uniform(size=(count, size, size, 3)).astype("f4")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("wide_resnet", WIDE),
        pytest.param("preact_resnet18", RICE, marks=pytest.mark.slow),
        pytest.param("preact_resnet18", WONG, marks=pytest.mark.slow),
    ],
)
def test_logits_are_pytorch_s_rules(name, settings):
    rules = {key: value for key, value in settings.items() if key in RICE}
    weights = _weights(name, final_norm=rules.get("final_norm", True))
    loaded = advloss.load_pytorch(name, weights, **settings)
    images = _images()
    expected = _forward(name, weights, images, **rules)
    np.testing.assert_allclose(loaded.classifier(images), expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_a_loaded_network_is_attacked():
    weights = {**_weights("wide_resnet"), "fc.bias": np.zeros(4, np.float32)}
    loaded = advloss.load_pytorch("wide_resnet", weights, **WIDE)
    images = _images(count=4)
    labels = np.argmax(_forward("wide_resnet", weights, images), axis=1)
    result = advloss.evaluate(
        loaded, images, labels, epsilon=1.0, attacks="pgd", steps=9
    )
    assert result.natural_accuracy == 1
    assert result.robust_accuracy[0] < 1


def test_settings_may_be_numpy_s():
    given = {key: np.int64(value) for key, value in WIDE.items()}
    loaded = advloss.load_pytorch("wide_resnet", _weights("wide_resnet"), **given)
    assert loaded.classifier(_images()).shape == (len(_images()), 4)


def test_prefixes_and_what_nothing_uses_are_left_out():
    weights = _weights("wide_resnet")
    plain = advloss.load_pytorch("wide_resnet", weights, **WIDE)
    prefixed = {f"module.model.{key}": value for key, value in weights.items()}
    prefixed["module.model.sub_block1.layer.0.conv1.weight"] = np.ones(3)
    for given in (prefixed, {k: np.float64(v) for k, v in weights.items()}):
        loaded = advloss.load_pytorch("wide_resnet", given, **WIDE)
        jax.tree.map(np.testing.assert_array_equal, plain.variables, loaded.variables)


@pytest.mark.parametrize(
    "names", [("mu", "sigma"), ("normalize.mean", "normalize.std")]
)
def test_images_are_normalised_as_the_weights_say(names):
    """As (x - mean) / std before the network; given beside, they must agree."""
    weights = _weights("wide_resnet")
    mean, std = [0.5, 0.25, 0.125], [0.5, 2.0, 1.0]
    held = [np.array(each).reshape(1, 3, 1, 1) for each in (mean, std)]
    images = _images()
    expected = _forward("wide_resnet", weights, (images - mean) / std)
    given = {**weights, **dict(zip(names, held, strict=True))}
    for more in ({}, {"mean": mean, "std": std}):
        loaded = advloss.load_pytorch("wide_resnet", given, **WIDE, **more)
        np.testing.assert_allclose(loaded.classifier(images), expected, atol=1e-4)
    with pytest.raises(InputError, match=r"^std=\(1.0, 2.0, 1.0\) is not what"):
        advloss.load_pytorch("wide_resnet", given, **WIDE, std=[1.0, 2.0, 1.0])
    del given[names[1]]
    with pytest.raises(InputError, match=r"^weights hold mean of images alone"):
        advloss.load_pytorch("wide_resnet", given, **WIDE)


def _changed(**changes):
    weights = {**_weights("wide_resnet"), **changes}
    return {key: value for key, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv1.weight": None}, "hold no conv1.weight of 4 axes"),
        ({"fc.weight": np.ones(4)}, "hold no fc.weight of 2 axes"),
        ({"fc.bias": None}, r"lack fc.bias \(1 in all\): wide_resnet with depth=10"),
        ({"fc.bias": np.ones(5)}, r"fc.bias is \(5,\): use \(4,\)"),
        (
            {"block2.layer.0.conv1.weight": np.ones((32, 16, 1, 1))},
            r"conv1.weight is \(32, 16, 1, 1\): use \(32, 16, 3, 3\)",
        ),
        ({"block1.layer.1.bn1.bias": np.ones(16)}, "hold, .*block1.layer.1.bn1.bias"),
        ({"fc.bias": np.array([0, 1, 2, np.nan])}, "fc.bias holds .* not finite"),
        ({"fc.bias": np.array([0, 1, 2, 1e99])}, "fc.bias holds .* not finite"),
        ({"bn1.running_var": -np.ones(64)}, "bn1.running_var holds variances below 0"),
        ({"fc.bias": "none"}, r"weights\['fc.bias'\] is a str: use arrays"),
        ({"fc.bias": np.array(list("abcd"))}, r"weights\['fc.bias'\] is <U1"),
        ({"module.fc.bias": np.ones(4)}, "hold fc.bias twice, once as module.fc.bias"),
        ({"fc.weight": np.ones((0, 64))}, "hold no fc.weight of 2 axes: use"),
        ({"mu": np.full(3, np.nan), "sigma": np.ones(3)}, "mu holds .* not finite"),
        (
            {"mu": np.full(3, 125), "sigma": np.full(3, 60)},
            r"^mean=\(125.0, 125.0, 125.0\) is not of images in \[0, 1\]",
        ),
    ],
)
def test_other_weights_are_refused_by_name(changes, said):
    with pytest.raises(InputError, match=said):
        advloss.load_pytorch("wide_resnet", _changed(**changes), **WIDE)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("table1", {}, "^name='table1' .*use one of preact_resnet18, wide_resnet"),
        ("wide_resnet", {**WIDE, "depth": 16}, "lack block1.layer.1.bn1.bias"),
        ([], {}, r"^name=\[\] is not valid: use one of preact_resnet18, wide_resnet"),
        (
            "wide_resnet",
            {**WIDE, "mean": [[0.5], [0.5, 0.5]]},
            "^mean=.* one number",
        ),
        (
            "wide_resnet",
            {**WIDE, "mean": 125.0},
            r"^mean=\(125.0,\) is not of images in",
        ),
        ("wide_resnet", {"depth": 11}, "config.model.depth=11 .*6n"),
        ("wide_resnet", {"depth": "10"}, "config.model.depth='10' .*6n"),
        ("wide_resnet", {"mean": ("a",)}, "config.model.mean=.*finite numbers"),
        ("wide_resnet", {**WIDE, "std": [1, 2]}, "config.model.std=.* 3 channels"),
        ("wide_resnet", {"norm": "group"}, "norm='group' is no setting .*depth, widen"),
        ("wide_resnet", {"width": 1}, "width=1 is no setting"),
        ("preact_resnet18", {}, "^shortcut is missing, and no weight tells it"),
    ],
)
def test_other_settings_are_refused(name, settings, said):
    with pytest.raises(InputError, match=said):
        advloss.load_pytorch(name, _weights("wide_resnet"), **settings)


def test_files(tmp_path):
    weights = _weights("wide_resnet")
    safetensors.numpy.save_file(weights, tmp_path / "w.safetensors")
    loaded = advloss.load_pytorch("wide_resnet", tmp_path / "w.safetensors", **WIDE)
    np.testing.assert_array_equal(
        loaded.variables["params"]["fc"]["kernel"], weights["fc.weight"].T
    )
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    for name, said in {
        "damaged.safetensors": "can't be read",
        "absent.pt": "there is no such file",
        "w.npz": "use a file .pt, .pth, .safetensors",
    }.items():
        with pytest.raises(InputError, match=rf"^weights=.*{name} .*{said}"):
            advloss.load_pytorch("wide_resnet", str(tmp_path / name), **WIDE)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_files_of_pytorch(torch, tmp_path):
    """A state_dict, or a checkpoint with one; two in one file are refused."""
    weights = {k: torch.from_numpy(v) for k, v in _weights("wide_resnet").items()}
    for name, content in {
        "plain.pt": weights,
        "more.pth": {"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}},
    }.items():
        torch.save(content, tmp_path / name)
        loaded = advloss.load_pytorch("wide_resnet", tmp_path / name, **WIDE)
        np.testing.assert_array_equal(
            loaded.variables["params"]["stem"]["kernel"],
            weights["conv1.weight"].numpy().transpose(2, 3, 1, 0),
        )
    for content, said in {
        "two.pt": ({"model": weights, "ema": weights}, "holds model, ema: give"),
        "none.pt": ({"epoch": 3}, "holds epoch: give"),
        "list.pt": ([1], "holds a list"),
    }.items():
        torch.save(said[0], tmp_path / content)
        with pytest.raises(InputError, match=said[1]):
            advloss.load_pytorch("wide_resnet", tmp_path / content, **WIDE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda bias: bias.to_sparse(), r"can't be read: .*[Ss]parse"),
        (lambda bias: bias.to("meta"), r"can't be read: .*meta"),
        (lambda bias: 1j * bias, r"is complex64: use floats"),
    ],
)
def test_tensors_without_real_values_are_refused(torch, change, said):
    weights = {k: torch.from_numpy(v) for k, v in _weights("wide_resnet").items()}
    weights["fc.bias"] = change(weights["fc.bias"])
    with pytest.raises(InputError, match=rf"weights\['fc.bias'\] {said}"):
        advloss.load_pytorch("wide_resnet", weights, **WIDE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("wide_resnet", WIDE), ("preact_resnet18", RICE), ("preact_resnet18", WONG)],
)
def test_logits_are_pytorch_s(torch, name, settings):
    """Of its own layers, put together as the public repositories do."""
    nn, wide = torch.nn, name == "wide_resnet"
    final_norm = settings.get("final_norm", True)

    class Block(nn.Module):
        def __init__(self, inside, out, stride, called):
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(out)
            self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
            self.called, _, listed = called.partition(".")
            if stride > 1 or inside != out:
                short = nn.Conv2d(inside, out, 1, stride, bias=False)
                self.add_module(self.called, nn.Sequential(short) if listed else short)

        def forward(self, x):
            y = torch.relu(self.bn1(x))
            if hasattr(self, self.called):
                taken = x if settings.get("shortcut") == "input" else y
                x = getattr(self, self.called)(taken)
            return x + self.conv2(torch.relu(self.bn2(self.conv1(y))))

    blocks = [Block(*rest) for _, *rest in _blocks(name)]
    net = nn.Module()
    net.conv1 = nn.Conv2d(3, 16 if wide else 64, 3, 1, 1, bias=False)
    per_stage = 1 if wide else 2
    for i in range(0, len(blocks), per_stage):
        stage = nn.Sequential(*blocks[i : i + per_stage])
        if wide:
            inner, stage = stage, nn.Module()
            stage.layer = inner
        setattr(net, f"{'block' if wide else 'layer'}{i // per_stage + 1}", stage)
    width = 64 if wide else 512
    if final_norm:
        setattr(net, "bn1" if wide else "bn", nn.BatchNorm2d(width))
    setattr(net, "fc" if wide else "linear", nn.Linear(width, 4))
    net.load_state_dict(
        {
            k: torch.from_numpy(v)
            for k, v in _weights(name, final_norm=final_norm).items()
        }
    )
    net.eval()
    images = _images(32)
    with torch.no_grad():
        x = net.conv1(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
        for block in blocks:
            x = block(x)
        if final_norm:
            x = torch.relu(getattr(net, "bn1" if wide else "bn")(x))
        x = torch.nn.functional.avg_pool2d(x, x.shape[-1]).flatten(1)
        expected = getattr(net, "fc" if wide else "linear")(x)
    loaded = advloss.load_pytorch(name, net.state_dict(), **settings)
    np.testing.assert_allclose(loaded.classifier(images), expected, atol=1e-4)
