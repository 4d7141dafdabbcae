"""The notebooks run end to end on the samples, define nothing, and are kept without outputs."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from recommender.cli import group

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(ROOT / "data" / "samples", folder / "data" / "samples")
    words = ["ingest", f"{folder}/data/samples/hubble", "--store", f"{folder}/out/store"]
    assert CliRunner().invoke(group, words).exit_code == 0
    (folder / "notebooks").mkdir()
    return folder


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "01_flows",
        "02_patterns",
        "03_review",
        "04_window",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs_from_its_first_cell_to_its_last(path: Path, workplace: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(workplace / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    kinds = {kind for out in shown for kind in out.get("data", {})}
    assert "text/html" in kinds
    assert not [
        out for out in shown if out["output_type"] == "error" or out.get("name") == "stderr"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing(path: Path) -> None:
    for cell in cells(path):
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.For)


def test_all_that_analysts_import_says_columns_and_errors() -> None:
    import recommender

    for name in recommender.__all__:
        found = getattr(recommender, name)
        assert callable(found)
        assert found.__doc__, name


def test_a_name_of_the_face_stays_the_function_when_its_module_is_imported() -> None:
    from recommender.edges import reports

    assert callable(reports)
    from recommender import edges

    assert edges.__module__ == "recommender.face"
