"""LiteLLM's real proxy with the plugin, from the environment whose `litellm` command LITELLM_COMMAND names.

With REQUIRE_LITELLM=1 and no such command, an environment is made once and kept beside the tests' database.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import dumps
from pathlib import Path

import requests

from tests.gateways.web_process import free_port
from tests.postgres import DATA

START_SECONDS = 120
LITELLM = "litellm[proxy]==1.106.2"
PLUGIN = Path(__file__).parents[2] / "metering" / "gateways" / "litellm"
MASTER_KEY = f"sk-{'m' * 48}-1A2b3C4d"
MODELS = ("gpt-4o-mini", "flaky-model", "broken-model", "slow-model", "mute-model", "small-model")


def is_wanted() -> bool:
    return bool(os.environ.get("LITELLM_COMMAND") or os.environ.get("REQUIRE_LITELLM") == "1")


def command() -> str:
    """Where `litellm` is; makes its environment where that is needed."""
    if named := os.environ.get("LITELLM_COMMAND"):
        return named
    folder = DATA.parent / "litellm"
    litellm, finished = folder / "bin" / "litellm", folder / LITELLM
    if not finished.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, LITELLM], check=True)
        finished.touch()
    return str(litellm)


@contextmanager
def proxy(folder: Path, environment: Mapping[str, str], upstream: str) -> Iterator[str]:
    """A running proxy with the plugin; answers its address. Leaves without saying goodbye: its spool has to do."""
    model = {"api_base": upstream, "api_key": "sk-upstream-secret"}
    config = {
        "model_list": [{"model_name": name, "litellm_params": model | {"model": f"openai/{name}"}} for name in MODELS],
        "general_settings": {"master_key": MASTER_KEY, "custom_auth": "kilotoken_litellm.user_api_key_auth"},
        "litellm_settings": {"callbacks": ["kilotoken_litellm.kilotoken"]},
        "router_settings": {"num_retries": 2, "retry_after": 0, "disable_cooldowns": True},
    }
    (folder / "config.yaml").write_text(dumps(config))
    port = free_port()
    base = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    base |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(PLUGIN)}
    arguments = [command(), "--config", str(folder / "config.yaml"), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=folder, env=base | dict(environment), stdout=log, stderr=log)
    try:
        yield _when_ready(f"http://127.0.0.1:{port}", process, folder / "log")
    finally:
        process.terminate()
        process.wait(30)


def _when_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url + "/health/liveliness", timeout=2).ok:
                return url
        except requests.ConnectionError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])
