import pytest

from headgate_cli.main import main


@pytest.mark.parametrize("arguments", [[], ["keys"], ["keys", "create"], ["nonsense"]])
def test_a_wrong_command_line_says_what_would_be_right(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code
    assert "usage: headgate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["serve"], ["validate"], ["explain"], ["keys", "create"], ["cluster", "up"]]
)
def test_every_command_explains_itself(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])

    assert 0 == ended.value.code
    assert f"usage: headgate {' '.join(command)}" in capsys.readouterr().out
