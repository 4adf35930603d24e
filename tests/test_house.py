"""The plan of the house is a test, not a wish: who imports whom, how long a file is, who prints, what the README says."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "deblur_cli"
FILES = sorted(PACKAGE.rglob("*.py"))


def _tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install -e '.[dev]')")
    return found


def _run(*words: str) -> None:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_import_points_down() -> None:
    _run(_tool("lint-imports"))


def test_ruff_finds_nothing() -> None:
    _run(_tool("ruff"), "check", ".")


def test_everything_is_formatted() -> None:
    _run(_tool("ruff"), "format", "--check", ".")


@pytest.mark.network
def test_pyright_finds_nothing() -> None:
    _run(_tool("pyright"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_holds_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("path", [path for path in FILES if "cli" not in path.relative_to(PACKAGE).parts], ids=str)
def test_nobody_but_cli_prints_or_exits(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "exit", "quit"}, f"{path}:{node.lineno}"


def test_no_file_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "helpers", "common", "misc", "core", "base", "manager", "handler", "factory"}
    assert not empty & {path.stem for path in FILES}


def test_the_floor_plan_of_the_readme_is_the_tree() -> None:
    plan = re.search(r"```\ndeblur_cli/\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert plan, "README.md has no floor plan"
    room, drawn = "", set()
    for line in plan.group(1).splitlines():
        if named := re.match(r"(\w+/)", line):
            room = named.group(1)
        drawn |= {(room if line.startswith("    ") else "") + name for name in re.findall(r"\w+\.py", line)}
    built = {path.relative_to(PACKAGE).as_posix() for path in FILES if path.name not in {"__init__.py", "__main__.py"}}
    assert drawn == built


def test_ci_runs_the_command_of_the_readme() -> None:
    command = "pip install -e '.[dev]' && pytest -n 2"
    assert f"    {command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
