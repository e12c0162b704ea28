"""Measure what the benchmark page states and keep the raw output: `make evidence ARGS="--data DIR [NAME ...]"`.

Takes about half an hour on two cores that do nothing else. Every run is one `mitral` command; what it printed is kept
with its date, the machine and the versions under `docs/development/evidence/`. `make docs` makes the page from that.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

EVIDENCE = Path(__file__).resolve().parent / "development" / "evidence"
MITRAL = Path(sys.executable).with_name("mitral")
PACKAGES = ("cryptography", "numpy", "torch", "fastapi", "httpx", "uvicorn", "scikit-learn")
LIKE_PEERS = "--sites 10 --dimension 10000000"
RUNS = {
    "secagg-16": f"bench secagg {LIKE_PEERS} --bits 16",
    "secagg-16-two-drop": f"bench secagg {LIKE_PEERS} --bits 16 --dropouts 2",
    "secagg-24": f"bench secagg {LIKE_PEERS} --bits 24",
    "secagg-24-two-drop": f"bench secagg {LIKE_PEERS} --bits 24 --dropouts 2",
    "secagg-16-forty": "bench secagg --sites 40 --dimension 10000000 --bits 16 --repeats 3",
    "secagg-24-forty": "bench secagg --sites 40 --dimension 10000000 --bits 24 --repeats 3",
    "round": "bench round --dimension 1000000",
    "splits-heart-disease": "bench heart-disease --data {data}/heart-disease-uci",
    "demo-breast-cancer": "demo",
    "demo-heart-disease": "demo --dataset heart-disease --data {data}/heart-disease-uci",
    "demo-pneumoniamnist": "demo --dataset pneumoniamnist --data {data}/pneumoniamnist",
}


def main() -> int:
    """Run what is named, or everything; return how many runs failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with heart-disease-uci/ and pneumoniamnist/")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(RUNS)}")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(RUNS))
    if unknown:
        parser.error(f"no such run: {', '.join(unknown)}")
    failed = 0
    for name in given.names or RUNS:
        command = RUNS[name]
        if "{data}" in command and given.data is None:
            print(f"{name}: left out, it needs --data")
            continue
        print(f"{name}: mitral {command}", flush=True)
        result = run(command.replace("{data}", str(given.data)))
        failed += result is None
        if result is not None:
            keep(name, command, result)
    return failed


def run(command: str) -> dict[str, Any] | None:
    """Run a command of Mitral and return the figures it reports; None when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        json_option = ["--json", str(report)] if command.startswith("demo") else ["--json"]
        done = subprocess.run([MITRAL, *command.split(), *json_option], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(f"exit status {done.returncode}", file=sys.stderr)
            return None
        figures = json.loads(report.read_text(encoding="utf-8") if report.exists() else done.stdout)
    figures.pop("files", None)  # where a demo left its results
    return dict(figures)


def keep(name: str, command: str, result: dict[str, Any]) -> None:
    """Write one run's figures beside what they were measured on."""
    EVIDENCE.mkdir(exist_ok=True)
    value = {
        "command": f"mitral {command.replace('{data}', 'DIR')}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "result": result,
    }
    (EVIDENCE / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Return processor, cores and operating system in a line; nothing that names the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    flags = {"vaes": "VAES", "sha_ni": "SHA-NI", "avx512f": "AVX-512"}
    extensions = [name for flag, name in flags.items() if re.search(rf"\b{flag}\b", text)]
    processor = found.group(1).strip() if found else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores ({', '.join(extensions)}), {platform.system()}"


if __name__ == "__main__":
    sys.exit(main())
