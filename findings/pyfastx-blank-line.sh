#!/usr/bin/env bash
# pyfastx 2.3.1 (MIT): a slice of a sequence is wrong where a blank line stands within the record.
# Guess: FASTA readers skip blank lines, so that seq[8:13] is the sixth part of the whole sequence's letters.
# Seen: the whole sequence is right, and slices behind the blank line are not those of it; nothing is said.
# What it means for us: `genome.fasta` has an index of its own, tested against the records in memory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyfastx==2.3.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import pyfastx

lines = ["ACGTACGT", "", "TTGGCCAA", "GATTACAG"]
whole = "".join(lines)
with open("a.fa", "w") as file:
    file.write(">one\n" + "\n".join(lines) + "\n")
sequence = pyfastx.Fasta("a.fa")["one"]
seen = {(a, b): sequence[a:b].seq for a, b in ((0, 5), (8, 13), (12, 20))}
print("version", pyfastx.__version__)
print("whole", sequence.seq, sequence.seq == whole)
for (a, b), found in seen.items():
    print(f"[{a}:{b}]", found, "wanted", whole[a:b])
assert sequence.seq == whole
assert any(found != whole[a:b] for (a, b), found in seen.items()), "slices are right now"
PY
