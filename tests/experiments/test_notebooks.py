"""The notebooks run from their first cell to their last."""

import json
import pathlib

import pytest

NOTEBOOKS = sorted(
    (pathlib.Path(__file__).resolve().parents[2] / "experiments" / "notebooks").glob("*.ipynb")
)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code
    scope = {}
    for source in code:
        # Fewer epochs than a reader takes; the cells are the reader's otherwise.
        source = source.replace("epochs=30", "epochs=2").replace("epochs=20", "epochs=1")
        exec(compile(source, str(path), "exec"), scope)
    assert 0 <= scope["trained"].score.value <= 1
    assert set(scope["result"].mix) == {"cell"}
