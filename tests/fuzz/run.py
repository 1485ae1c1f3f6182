"""Fuzz a protocol with atheris, which looks for inputs that reach new code: python -m tests.fuzz.run TARGET SECONDS.

What it has found stays in `.cache/fuzz/`, and the next run begins with that. An input that fails is written beside it,
and named; `python -m tests.fuzz.run TARGET FILE` runs it again.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import atheris
except ImportError:
    raise SystemExit(
        "atheris is not installed, and may not exist for this Python: pip install atheris, or try CPython 3.11"
    ) from None

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["fairway.protocols"]):
    from tests.fuzz.samples import SAMPLES
    from tests.fuzz.targets import TARGETS


def main() -> None:
    match sys.argv[1:]:
        case [target, what] if target in TARGETS:
            pass
        case _:
            raise SystemExit(f"usage: python -m tests.fuzz.run {{{','.join(TARGETS)}}} SECONDS|FILE")
    corpus = ROOT / ".cache" / "fuzz" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate([*SAMPLES[target], b"".join(SAMPLES[target])]):
        for choices in (b"\1\0\1\0\0\0\0\0", b"\0\1\1\2\3\4\5\6"):
            (corpus / f"sample-{index}-{choices[0]}").write_bytes(choices + sample)
    how = [f"-max_total_time={what}", str(corpus)] if what.isdigit() else [what]
    atheris.Setup(
        [sys.argv[0], "-max_len=4096", "-rss_limit_mb=1024", "-timeout=10", f"-artifact_prefix={corpus}-failed-", *how],
        TARGETS[target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
