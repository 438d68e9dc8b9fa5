"""Fixtures that many tests share."""

import os
import pathlib

import pytest

# Eight virtual devices, so that data-parallel steps can be tested; read when JAX starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data: $DNAS_DATA, or shared/data beside the checkout."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("DNAS_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DNAS_DATA to the folder that holds it")
    return folder
