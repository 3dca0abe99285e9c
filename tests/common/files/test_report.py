"""The report, to the letter of the contract."""

from aisix_common.files.report import FileProblem, FileRefused, field_message


def test_the_report() -> None:
    problems = [
        FileProblem("cannot read file: x"),
        FileProblem(field_message(("a", "b", 0), "bad"), "models", 0),
        FileProblem("bad", "models", 1, 'gpt "4o"\n'),
    ]
    assert str(FileRefused("a/r.yaml", problems)) == (
        "resources file a/r.yaml: 3 error(s):\n"
        "  - (file): cannot read file: x\n"
        "  - models[0]: field `a.b[0]`: bad\n"
        '  - models[1] ("gpt \\"4o\\"\\n"): bad'
    )
