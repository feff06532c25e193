"""The command of the local runner."""

from tfrec_meta.pipeline.runners import local_runner


def test_the_command_reports_an_invalid_config(tmp_path, capsys):
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nserving: x\n")
    assert local_runner.main(["--config", str(path)]) == 2
    assert "`data` must be set" in capsys.readouterr().err
    assert local_runner.main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
