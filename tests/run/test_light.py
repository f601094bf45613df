import subprocess
import sys

EXTRA = {"tensorboard", "matplotlib", "rich", "PIL", "tyro", "safetensors"}


def test_importing_run_brings_in_none_of_its_packages():
    code = "import worldblocks.run, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[0] for name in loaded} & EXTRA == set()
