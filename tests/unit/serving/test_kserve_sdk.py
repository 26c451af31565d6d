"""KServe is imported without the command line, Kubernetes and pandas; each test in a process of its own."""

import subprocess
import sys
from textwrap import dedent

import pytest


def run(code: str, *arguments: str) -> str:
    """Run code in a new process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_loads_nothing_that_serving_does_not_need() -> None:
    found = run(
        """
        import sys
        import visionyard.serving.server, visionyard.cli.serve
        unwanted = "kubernetes pandas torch mlflow kfp pyarrow av matplotlib ray openai kserve".split()
        print([name for name in unwanted if name in sys.modules])
        """
    )

    assert found == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--workers", "abc"], id="number-that-is-none"),
        pytest.param(["--protocol", "http"], id="unknown-choice"),
        pytest.param(["--timeout", "5s"], id="abbreviation"),
        pytest.param(["--http_port=0", "--model_name", "m"], id="kserve-s-own"),
    ],
)
def test_it_leaves_the_command_line_alone(arguments: list[str]) -> None:
    found = run("import sys\nfrom visionyard.serving import kserve_sdk\nprint(sys.argv[1:])", *arguments)

    assert found == repr(arguments)


def test_a_later_import_of_kserve_gets_all_of_it_with_the_same_classes() -> None:
    # Without -W error: the whole package brings warnings of its own.
    code = """
        import warnings
        warnings.simplefilter("ignore")
        from visionyard.serving import kserve_sdk
        import pandas
        import kserve
        print(kserve.Model is kserve_sdk.Model, hasattr(kserve, "KServeClient"), hasattr(pandas, "read_csv"))
        """

    assert run(code) == "True True True"


def test_a_kserve_that_is_there_already_is_used() -> None:
    code = """
        import warnings
        warnings.simplefilter("ignore")
        import kserve
        from visionyard.serving import kserve_sdk
        import sys
        print(kserve.ModelServer is kserve_sdk.ModelServer, sys.modules["kserve"] is kserve)
        """

    assert run(code) == "True True"
