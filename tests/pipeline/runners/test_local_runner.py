"""The command of the local runner."""

import re

import pytest

from tfrec_meta.pipeline.runners import local_runner


def test_the_command_reports_an_invalid_config(tmp_path, capsys):
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nserving: x\n")
    assert local_runner.main(["--config", str(path)]) == 2
    assert "`data` must be set" in capsys.readouterr().err
    assert local_runner.main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


LEAST = b"name: shop\nserving: models/shop\ndata: {interactions: {path: a.csv}}\n"
BAD = {
    "empty": (b"", []),
    "binary": (b"\xff\xfe\x00", []),
    "cut": (b"name: [shop", []),
    "list": (b"- 1\n", []),
    "text": (b"shop", []),
    "alias": (b"a: &a [1]\nb: *a\nname: *c\n", []),
    "tabs": (b"name:\tshop\n\tserving: x\n", []),
    "control": (b"name: \x07shop", []),
    "object": (b"!!python/object/apply:os.system [echo]", []),
    "name": (LEAST.replace(b"shop", b"[1]", 1), []),
    "seed": (LEAST + b"seed: -1\n", []),
    "large seed": (LEAST + b"seed: 1" + b"0" * 30 + b"\n", []),
    "unknown": (LEAST + b"sead: 1\n", []),
    "number": (LEAST + b"tuner: 3\n", []),
    "trials": (LEAST + b"tuner: {trials: many}\n", []),
    "nan": (LEAST + b"data: {interactions: {path: a.csv}, max_bad_share: .nan}\n", []),
    "path": (LEAST.replace(b"a.csv", b"3"), []),
    "key": (LEAST + b"3: 4\n", []),
    "no equals": (LEAST, ["tuner"]),
    "no key": (LEAST, ["=3"]),
    "through a text": (LEAST, ["name.first=3"]),
    "not YAML": (LEAST, ["tuner.trials=[3"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_config_is_one_sentence_without_the_name_of_an_exception(name, tmp_path, capsys):
    content, settings = BAD[name]
    path = tmp_path / "shop.yaml"
    path.write_bytes(content)
    words = [word for setting in settings for word in ("--set", setting)]
    assert local_runner.main(["--config", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert error[:-1].isprintable()
    assert not re.search(r"\b[A-Z]\w*(Error|Exception)\b|Traceback|This is a fault of", error)
