"""Every example in the README runs, in order, as it is printed there."""

import re
import shlex
from pathlib import Path

import pytest

from vtune.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_every_block_is_of_a_kind_that_is_run():
    assert len(re.findall(r"^```\w+$", README, re.MULTILINE)) == len(
        [*blocks("python"), *blocks("sh"), *blocks("toml")]
    )
    assert blocks("python")
    assert blocks("sh")


@pytest.mark.filterwarnings("default:float64 data are trained in float32:UserWarning")
@pytest.mark.filterwarnings("default:29 of 64 columns of x are far from 1 in size")
@pytest.mark.long
def test_the_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"README.md, example {number + 1}", "exec"), names)
        if number == 0:
            first = names["study"]
            assert len(first.trials) == 256
            assert first.best_model(first.data.test[0]).shape == (len(first.data.test[0]), 10)
            assert first.test_score > 0.95
    assert (tmp_path / "digits" / "trials.csv").exists()


@pytest.mark.long
def test_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (toml,) = blocks("toml")
    (tmp_path / "space.toml").write_text(toml)
    for line in "".join(blocks("sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "vtune"
        assert main(arguments) == 0
    assert "24 trials" in capsys.readouterr().out
