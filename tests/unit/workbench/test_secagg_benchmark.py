import json

import pytest

from shared.errors import InputError, Refusal
from workbench.benchmarks import secagg

MIB = 2**20


@pytest.mark.parametrize(("bits", "dropouts", "share"), [(16, 0, 0.51), (24, 1, 0.76), (20, 1, 0.64)])
def test_row_25_figures_are_of_an_exact_sum_within_the_memory_ceiling(bits: int, dropouts: int, share: float) -> None:
    figures = secagg.run(5, 300_000, dropouts, bits, repeats=1)
    assert figures["exact"] is True
    assert figures["upload_share_of_float32"] <= share
    assert figures["upload_bytes"] > 300_000 * bits / 8
    assert 0 < figures["coordinator_peak_bytes"] < 64 * MIB + 4 * 300_000
    for name in ("client_cpu_seconds", "coordinator_cpu_seconds", "plain_sum_cpu_seconds"):
        assert figures[name] > 0


def test_a_wrong_sum_is_not_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secagg, "quantize", lambda update, *_, **__: update.astype("<i4"))
    assert secagg.run(3, 2_000, repeats=1)["exact"] is False


def test_the_command_line_prints_what_was_measured() -> None:
    written: list[str] = []
    arguments = ["--sites", "3", "--dimension", "5000", "--bits", "24", "--repeats", "1", "--json"]
    assert secagg.main(arguments, written.append) == 0
    figures = json.loads("".join(written))
    assert (figures["sites"], figures["dimension"], figures["bits"], figures["exact"]) == (3, 5000, 24, True)
    written.clear()
    secagg.main(arguments[:-1], written.append)
    assert "exact: True" in "".join(written)


@pytest.mark.parametrize(
    ("sites", "dimension", "dropouts", "bits"),
    [(2, 10, 0, 16), (4, 0, 0, 16), (10, 10, 4, 16), (10, 10, -1, 16), (4, 10, 0, 33)],
)
def test_sizes_that_cannot_be_measured(sites: int, dimension: int, dropouts: int, bits: int) -> None:
    with pytest.raises(InputError) as refused:
        secagg.run(sites, dimension, dropouts, bits)
    assert refused.value.code == "bench_arguments"


def test_no_repeats_are_no_measurement() -> None:
    with pytest.raises(InputError):
        secagg.run(3, 10, repeats=0)


def test_sizes_that_overflow() -> None:
    with pytest.raises(Refusal) as refused:
        secagg.run(10, 10, bits=16, quantization_bits=13)
    assert refused.value.code == "sa_overflow"


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "client", "all_present", "two_lost"), [(16, 4, 8, 12), (24, 6, 12, 18)])
def test_the_promised_multiples_of_a_plain_sum(bits: int, client: float, all_present: float, two_lost: float) -> None:
    for dropouts, coordinator in ((0, all_present), (2, two_lost)):
        figures = secagg.run(10, 10_000_000, dropouts, bits)
        assert figures["exact"] is True
        assert figures["client_multiple"] <= client
        assert figures["coordinator_multiple"] <= coordinator
        assert figures["coordinator_peak_bytes"] < 64 * MIB + 4 * 10_000_000
