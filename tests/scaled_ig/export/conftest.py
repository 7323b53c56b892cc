"""What tests of exports share."""

import pytest

from scaled_ig.cli import main


@pytest.fixture
def say(capsys):
    """Runs ``scaled-ig bank``: exit status, and what it said."""

    def leave(*arguments) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(["bank", *map(str, arguments)])
        said = capsys.readouterr()
        return left.value.code, said.out + "\n".join(line for line in said.err.splitlines() if "error: " in line)

    return leave
