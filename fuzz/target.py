"""Coverage-guided fuzzing of one log format, or of documents, with atheris.

    python -m fuzz.target FORMAT [libFuzzer's options] CORPUS...

FORMAT is a key of FORMATS, or `documents`. A block of any bytes must be accounted for line by line,
and must give what its lines give one by one.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ingest"]):
    from ingest import documents
    from ingest.formats import FORMATS, detect


def check_format(name: str, block: bytes) -> None:
    """A block is accounted for, and is the sum of its lines."""
    detect(block)
    made = FORMATS[name].parse(block)
    made.flows.validate(full=True)
    assert made.lines == made.flows.num_rows + sum(made.skipped.values()) + len(made.rejects)
    alone = [FORMATS[name].parse(line) for line in block.splitlines(keepends=True)
             if line.endswith(b"\n")] if b"\r" not in block else []  # fmt: skip
    if alone and block.endswith(b"\n"):
        assert made.flows.num_rows == sum(one.flows.num_rows for one in alone)
        assert len(made.rejects) == sum(len(one.rejects) for one in alone)


def check_document(text: bytes) -> None:
    """Where a document is cut into chunks makes no difference, and nothing in it is trouble."""
    documents.is_document(text)
    whole = b"".join(documents.lines([text]))
    for size in (1, 7):
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert b"".join(documents.lines(chunks)) == whole


def main() -> None:
    """Fuzz until libFuzzer's options say stop; the first name on the command line is the format."""
    name = sys.argv.pop(1)
    if name == "documents":
        target = check_document
    else:
        FORMATS[name]

        def target(block: bytes) -> None:
            check_format(name, block)

    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
