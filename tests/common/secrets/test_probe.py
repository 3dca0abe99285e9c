import pytest

from aisix_common.secrets.probe import (
    LONGEST_REASON,
    Probe,
    ProbeAnswer,
    answer_key,
    answers_prefix,
    decode,
    encode,
    probe_key,
    probes_prefix,
)


def test_the_keys_of_a_question_and_its_answers() -> None:
    assert probe_key("/run/aisix", "t1") == "/run/aisix/probes/t1" == probes_prefix("/run/aisix") + "t1"
    assert (
        answer_key("/run/aisix", "t1", "i1") == "/run/aisix/asking/t1/i1" == answers_prefix("/run/aisix", "t1") + "i1"
    )


@pytest.mark.parametrize(
    "row",
    [
        Probe("t", "vault/main", "2030-01-01T00:00:00Z"),
        Probe("t", "vault/main", "2030-01-01T00:00:00Z", ("a", "b")),
        ProbeAnswer("i", "host", ok=True, ms=12),
        ProbeAnswer("i", "host", ok=False, reason="refused", ms=3),
    ],
    ids=repr,
)
def test_a_row_comes_back_as_it_was_written(row: Probe | ProbeAnswer) -> None:
    assert decode(encode(row), type(row)) == row


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"token":1}', b"\xff", b'{"a":' * 5000])
def test_what_is_no_row_is_none(value: bytes) -> None:
    assert decode(value, Probe) is None
    assert decode(value, ProbeAnswer) is None


def test_fields_of_other_versions_do_no_harm() -> None:
    assert decode(b'{"instance":"i","hostname":"h","ok":true,"more":[1]}', ProbeAnswer) == ProbeAnswer(
        "i", "h", ok=True
    )


def test_a_long_reason_is_cut() -> None:
    answer = decode(encode(ProbeAnswer("i", "h", ok=False, reason="x" * 9999)), ProbeAnswer)
    assert answer is not None and len(answer.reason) == LONGEST_REASON
