import json

import pytest

from vtune.parameters import choice, integers, loguniform, powers_of_two, reverse_loguniform, uniform
from vtune.space import Space, per_layer
from vtune.spacefile import read_space, space_of, write_space


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "space.toml"
        file.write_text(text)
        return read_space(file)

    return read


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dropout = { uniform = [0.0, 0.5] }", uniform(0.0, 0.5)),
        ("learning_rate = { loguniform = [1e-4, 1] }", loguniform(1e-4, 1)),
        ("beta1 = { reverse_loguniform = [0.9, 0.999] }", reverse_loguniform(0.9, 0.999)),
        ("layers = { integers = [1, 4] }", integers(1, 4)),
        ("hidden = { integers = [16, 256], log = true }", integers(16, 256, log=True)),
        ("[hidden]\nlog = true\nintegers = [16, 256]", integers(16, 256, log=True)),
        ("batch_size = { powers_of_two = [32, 256] }", powers_of_two(32, 256)),
        ('activation = { choice = ["relu", "tanh"] }', choice(["relu", "tanh"])),
        ("kernel = { choice = [3, 5], ordered = false }", choice([3, 5], ordered=False)),
        ("hidden = { choice = [[32, 16], [64, 32]] }", choice([(32, 16), (64, 32)])),
        ("hidden = { integers = [16, 64], log = true, per_layer = true }", per_layer(integers(16, 64, log=True))),
        ('width = { choice = [4, 8], per_layer = "depth" }', per_layer(choice([4, 8]), layers="depth")),
        ("hidden = { integers = [16, 64], per_layer = false }", integers(16, 64)),
        ("decay = 0.01", 0.01),
        ('activation = "tanh"', "tanh"),
        ("norm = true", True),
    ],
)
def test_a_line_reads_as_the_call_that_it_looks_like(read, line, expected):
    (entry,) = read(line).values()
    assert (type(entry), entry) == (type(expected), expected)


def test_names_keep_their_order(read):
    assert list(read("layers = 2\nhidden = { integers = [1, 4] }\ndecay = 0")) == ["layers", "hidden", "decay"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hidden = { loguniform = [0.0, 1.0] }", r"loguniform\(0\.0, 1\.0\): .* Write"),
        ("hidden = { integers = [9, 2] }", r"integers\(9, 2\): .* Write"),
        ("hidden = { integer = [1, 4] }", "names no range; did you mean 'integers'"),
        ("hidden = {}", "names no range; write one of"),
        ("hidden = { integers = [1, 4], uniform = [1, 4] }", "integers and uniform cannot both .*; keep one"),
        ("hidden = { integers = [1, 2, 4] }", r"no list of two bounds; write integers = \[low, high\]"),
        ("hidden = { integers = 4 }", r"no list of two bounds; write integers = \[low, high\]"),
        ('hidden = { choice = "abc" }', r"no list of values; write choice = \[32, 64\]"),
        ("hidden = { choice = [] }", "nothing to choose from. Write"),
        ("hidden = { integers = [1, 4], step = 2 }", "integers has no option 'step'; write log = true"),
        ("hidden = { uniform = [1, 4], log = true }", "uniform has no option 'log'; leave it out"),
        ("hidden = { integers = [16, 64], per_layer = 3 }", "layers=3 is no name. Write per_layer"),
        ("hidden = { integers = [0, 64], per_layer = true }", "hidden must be an integer of 1 or more"),
        ("hidden = 0", "hidden must be an integer of 1 or more.* Write"),
        ("hidden = [32, 64]", r"a plain value is a single one\. Write choice"),
        ("hidden = 2025-01-01", "is not a number, string, bool or None. Write"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(read, line, problem):
    with pytest.raises((ValueError, TypeError), match=rf"space\.toml, hidden: .*{problem}.* In this file, "):
        read(line)


def test_a_name_that_is_no_identifier(read):
    with pytest.raises(ValueError, match=r"space\.toml, my rate: .* a name is an identifier"):
        read('"my rate" = 1')


def test_what_is_no_toml(read):
    with pytest.raises(ValueError, match=r"space\.toml is no TOML \(.*line 1.*\); write lines such as"):
        read("learning_rate: 1")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'space "no\.toml": there is no such file'):
        read_space("no.toml")


ALL_KINDS = {
    "learning_rate": loguniform(1e-4, 1),
    "dropout": uniform(0.0, 0.5),
    "beta1": reverse_loguniform(0.9, 0.999),
    "hidden": per_layer(integers(16, 64, log=True)),
    "width": per_layer(choice([4, 8]), layers="depth"),
    "depth": integers(1, 3),
    "layers": powers_of_two(1, 4),
    "kernel": choice([(3, 5), (5, 5)], ordered=False),
    "norm": choice([None, "None", True, 1.5, "1.5"]),
    "rates": choice([0.1, 0.3, 0.2], ordered=True),
    "shape": choice([(2, 3)]),
    "decay": 0,
    "activation": "tanh",
    "bias": True,
    "noise": None,
}


def test_a_space_comes_back_from_json_with_its_types_and_order():
    space = Space.of(ALL_KINDS)
    again = space_of(json.loads(json.dumps(write_space(space))))
    assert again == space
    assert list(again.written) == list(ALL_KINDS)
    for name, entry in space.entries.items():
        assert repr(again.entries[name]) == repr(entry)  # 1 is not True, and not 1.0
