"""The benchmark page, from the raw output that `make evidence` kept: no figure is typed by hand."""

import json
from pathlib import Path
from typing import Any

from docs.writer.markdown import table

EVIDENCE = Path(__file__).resolve().parents[1] / "development" / "evidence"
SECAGG = {
    "secagg-16": (4, 8),
    "secagg-16-two-drop": (4, 12),
    "secagg-24": (6, 12),
    "secagg-24-two-drop": (6, 18),
    "secagg-16-forty": (None, None),
    "secagg-24-forty": (None, None),
}
MIB = 2**20


def benchmarks() -> str:
    """Return the page."""
    return _introduction() + _aggregation() + _round() + _splits() + _demos()


def read(name: str) -> dict[str, Any]:
    """Return a kept run: command, date, machine, versions, result."""
    return dict(json.loads((EVIDENCE / f"{name}.json").read_text(encoding="utf-8")))


def _introduction() -> str:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(EVIDENCE.glob("*.json"))]
    machines = sorted({(one["date"], one["machine"]) for one in runs})
    versions = sorted({", ".join(f"{name} {number}" for name, number in one["versions"].items()) for one in runs})
    return (
        "# Benchmarks\n\n"
        '`make evidence ARGS="--data DIR"` measures all of this again, with the machine to itself, and keeps the raw\n'
        "output in [evidence](evidence); this page is made from there. Speed is stated as multiples of something\n"
        "measured in the same minute, because machines differ.\n\n"
        + "".join(f"- {date}: {machine}\n" for date, machine in machines)
        + "".join(f"- {text}\n" for text in versions)
    )


def _aggregation() -> str:
    rows = []
    for name, (client, coordinator) in SECAGG.items():
        one = read(name)["result"]
        rows.append(
            (
                f"{one['bits']}",
                f"{one['sites']}, {one['dropouts']} lost",
                _multiple(one, "client", client),
                _multiple(one, "coordinator", coordinator),
                f"{one['upload_share_of_float32']:.2f}",
                f"{one['coordinator_peak_bytes'] / MIB:.0f} MiB",
                "yes" if one["exact"] else "NO",
            )
        )
    head = ("Bits", "Sites", "Site", "Coordinator", "Upload of float32", "Coordinator's memory", "Exact")
    one = read("secagg-16")["result"]
    return (
        f"\n## Secure aggregation, {one['dimension']:,} weights\n\n"
        "CPU time as a multiple of the plain float32 sum of the same vectors in the same turn: median, smallest and\n"
        "largest turn, and what is allowed. One process each for a site and the coordinator, without disk writes and\n"
        "TLS. The site clips, quantizes, masks, computes checksums and commitments, packs and hashes; the coordinator\n"
        "reads, verifies hashes, unpacks, sums, unmasks, checks and dequantizes. Memory is resident over idle; one\n"
        f"model vector takes {4 * one['dimension'] / MIB:.0f} MiB of it. *Exact*: the words equal the integer sum.\n\n"
        + table(head, *rows)
        + "\n"
        + _commands(*SECAGG)
    )


def _multiple(one: dict[str, Any], side: str, allowed: int | None) -> str:
    low, high = one[f"{side}_multiple_range"]
    limit = f", at most {allowed}" if allowed else ""
    return f"{one[f'{side}_multiple']:.1f} ({low:.1f} to {high:.1f}{limit})"


def _round() -> str:
    one = read("round")["result"]
    rows = [
        (name, f"{figures['median']:.2f} s", f"{figures['min']:.2f} to {figures['max']:.2f} s")
        for name, figures in (
            ("whole round, by the coordinator's clock (at most 1.5 s)", one["round_seconds"]),
            ("whole round, by the wall", one["wall_seconds"]),
            ("open, train, mask, upload", one["phases"]["train_and_upload"]),
            ("confirm survivors, unmask, aggregate, publish", one["phases"]["close_unmask_aggregate"]),
        )
    ]
    return (
        f"\n## A whole secure round, {one['dimension']:,} weights, {one['sites']} sites\n\n"
        "Real processes on one machine, mutual TLS on loopback, a training step that costs next to nothing.\n\n"
        + table((f"{one['rounds']} rounds", "Median", "Range"), *rows)
        + "\n"
        + _commands("round")
    )


def _splits() -> str:
    one = read("splits-heart-disease")["result"]
    rows = [
        (name.replace("pooled_converged", "pooled, scikit-learn to convergence").replace("local_", "alone: "),
         f"{mean:.4f}", f"{one['sd'][name]:.4f}")
        for name, mean in one["mean"].items()
    ]  # fmt: skip
    difference = (
        "**federated minus pooled, split by split**",
        f"**{one['difference_mean']:+.4f}**",
        f"{one['difference_sd']:.4f}",
    )
    return (
        f"\n## Four real hospitals, {one['splits']} splits\n\n"
        "UCI Heart Disease: 60 % of the patients of each hospital and class train, 20 % validate, 20 % test; logistic\n"
        "regression; test patients of all hospitals together; exact AUC. Every version is chosen on validation\n"
        "patients. The federation is the float64 reference, which differs from the secure one by rounding only. A\n"
        "hospital alone normalises by its own statistics and trains under the same plan. At most 0.005 is allowed.\n\n"
        + table(("Trained on", "Mean AUC", "sd"), *rows, difference)
        + "\n"
        + _commands("splits-heart-disease")
    )


def _demos() -> str:
    rows = []
    names = ("demo-breast-cancer", "demo-heart-disease", "demo-pneumoniamnist")
    for name in names:
        one = read(name)["result"]
        cases = one["training_cases"]
        alone = ", ".join(f"{auc:.3f} ({cases[site]:,})" for site, auc in one["local_auc"].items())
        rows.append(
            (one["dataset"], f"{one['federated_auc']:.4f}", f"{one['pooled_auc']:.4f}", alone,
             f"{one['difference_to_float64']:+.4f}", f"{one['rounds']}", f"{one['seconds']:.0f} s")
        )  # fmt: skip
    head = (
        "Data", "Federated", "Pooled", "Each hospital alone (training cases)", "To float64", "Rounds", "Whole demo",
    )  # fmt: skip
    return (
        "\n## The demo\n\n"
        "A coordinator and four agents as separate processes, mutual TLS, secure aggregation; exact AUC on the same\n"
        "test cases. *To float64*: the difference to the same federation without quantization, at most 0.002 either\n"
        "way. PneumoniaMNIST uses the partition `dirichlet05_4` and the official test set.\n\n"
        + table(head, *rows)
        + "\n"
        + _commands(*names)
    )


def _commands(*names: str) -> str:
    lines = [read(name)["command"] for name in names]
    return "```console\n" + "".join(f"$ {line}\n" for line in lines) + "```\n"
