"""Loads what the servers load, in a process of its own: a library may crash there, or hang, and be found out.

`python -m devices.doctor.libraries` prints one JSON object a line: {"loading": name} before each, then what it found.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from devices.doctor.findings import Finding, ok, problem, warning

LOADED = ("numpy", "scipy", "h5py", "zmq", "tango", "safetensors", "numba", "torch")
LIMIT_S = 90.0  # a cold disk; PyTorch alone may take half a minute from one
REPAIR = "install tango-jit anew into an environment of its own (docs/how-to/install.md)"


def look(limit_s: float = LIMIT_S) -> list[dict[str, Any]]:
    """What the process printed, and at the end {"ended": exit status (None: it did not), "words": its last ones}."""
    command = [sys.executable, "-m", "devices.doctor.libraries"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)
        out, words, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        out, words, status = late.stdout or b"", late.stderr or b"", None
    lines = words.decode(errors="replace").strip().splitlines()
    found = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{") and line.endswith("}")]
    return [*found, {"ended": status, "words": lines[-1] if lines else ""}]


def judge(found: list[dict[str, Any]], cuda: list[str]) -> list[Finding]:
    """`cuda`: the devices of this computer whose property Backend asks for a GPU."""
    findings = []
    end = found[-1]
    broken = {one["broken"]: one["why"] for one in found if "broken" in one}
    if end["ended"] != 0:
        last = [one["loading"] for one in found if "loading" in one][-1:] or ["python"]
        how = "did not end" if end["ended"] is None else f"ended with status {end['ended']}"
        findings.append(problem("libraries", f"loading {last[0]} {how}: {end['words'] or 'no word'}", REPAIR))
    elif broken:
        words = "; ".join(f"{name}: {why}" for name, why in broken.items())
        findings.append(problem("libraries", f"cannot be loaded: {words}", REPAIR))
    else:
        findings.append(ok("libraries", f"{', '.join(LOADED)} load"))
    for one in found:
        if one.get("layer"):
            findings.append(ok("threads of numba", f"layer {one['layer']}, {one['threads']} threads"))
        elif "layer" in one:
            findings.append(problem("threads of numba", one["why"], "apt install libgomp1, or pip install tbb"))
    return [*findings, _gpu(next((one for one in found if "gpu" in one), None), cuda)]


def _gpu(found: dict[str, Any] | None, cuda: list[str]) -> Finding:
    if found is not None and found["gpu"]:
        return ok("GPU", f"{found['gpu']}, {found['free_mb']} of {found['total_mb']} MB free")
    why = found["why"] if found is not None else "the look for it came to no end"
    if cuda:
        return problem(
            "GPU",
            f"none that can be used ({why}), and {', '.join(cuda)} asks for one",
            "pip install 'tango-jit[cuda]' and a driver (docs/how-to/use-a-gpu.md), or set the property Backend to "
            "cpu, then Init",
        )
    if found is None:
        return warning("GPU", why, "see the line on libraries")
    return ok("GPU", f"none that can be used ({why}), and none is asked for")


def main() -> None:
    """What the process of its own does."""
    for name in LOADED:
        attempt(name, lambda name=name: {"loaded": importlib.import_module(name).__name__}, {"broken": name})
    attempt("numba's threads", _layer, {"layer": ""})
    attempt("cupy", _device, {"gpu": ""})


def attempt(name: str, action: Callable[[], dict[str, Any]], failed: dict[str, Any]) -> None:
    """Do it and tell what came, or `failed` and why."""
    tell(loading=name)
    try:
        tell(**action())
    except Exception as error:  # a broken library, or one without its driver, raises what it likes
        tell(**failed, why=_line(error))


def _layer() -> dict[str, Any]:
    import numba

    from tango_jit.threads import use_safe_layer

    return {"layer": use_safe_layer(), "threads": numba.get_num_threads()}


def _device() -> dict[str, Any]:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return {"gpu": "", "why": "cupy is not installed"}
    free, total = cupy.cuda.runtime.memGetInfo()
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    (cupy.arange(3) + 1).sum().item()  # compiles and runs a kernel
    return {"gpu": name, "free_mb": free >> 20, "total_mb": total >> 20}


def tell(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    main()
