#!/usr/bin/env python3
"""Checks an export of Kilotoken without Kilotoken: Python 3.9 or later, its standard library, nothing else.

    python verify_kilotoken.py events.ndjson manifest.json [invoice.json] [--head DIGEST] [--json]
    python verify_kilotoken.py proof event.json proof.json [--head DIGEST] [--json]

1. Every seal's digest follows from its own figures and the digest before it: the chain.
2. The events of each exported day give the Merkle root in that day's seal: nothing added, changed or left out.
3. With an invoice (the answer of GET /v1/invoices/NUMBER): the quantities it was computed from are the sums of the
   events that had been received when it was made, and the chain contains the seal that the invoice names.
4. With --head: the chain contains this digest, which you noted earlier or elsewhere. It is what shows that the newest
   days were not cut off or all written anew, so keep a digest from time to time.

The second form checks one event, as you sent it or as it was exported, against a proof downloaded for it: its leaf is
the one proved, the path leads from there to the day's root, the seal's digest (--head, if given) follows from the root.

Exit code 0: everything agrees; 1: something does not, and the output names it; 2: called wrongly, or a file is no
export. How leaves, roots and digests are made is told where they are computed below. This file shares no code with
the server, so that a mistake there is not repeated here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

# In the script that customers get, the source of this module stands here.
from metering.verifier_quantities import Quantities, canonical_json, leaf_place, moment_of, sha256

FORMAT = 1
NO_PREVIOUS = "0" * 64
# More findings than this help nobody.
MOST_FINDINGS = 100


class NotAnExportError(Exception):
    """A file is not what it should be; the text says which and why."""


# --- Leaves, roots, chain ---------------------------------------------------------------------------------------------


def parse_exactly(text: str) -> Any:
    """JSON with every number as Decimal, which loses no digit."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def leaf_content(event: dict[str, Any]) -> bytes:
    """Version, source, id, type, subject, time, whether the time was assumed, and data, as canonical JSON."""
    names = ("source", "id", "type", "subject", "time", "time_assumed", "data")
    return canonical_json(["kilotoken.event.1", *(event[name] for name in names)]).encode()


class Tree:
    """The Merkle tree of RFC 6962 over leaves as they come, in the memory of one branch."""

    def __init__(self) -> None:
        self.count = 0
        # Roots of the whole subtrees so far, largest first, with the numbers of their leaves.
        self.peaks: list[tuple[bytes, int]] = []

    def add(self, content: bytes) -> None:
        node, size = sha256(b"\x00" + content), 1
        while self.peaks and self.peaks[-1][1] == size:
            node, size = sha256(b"\x01" + self.peaks.pop()[0] + node), size * 2
        self.peaks.append((node, size))
        self.count += 1

    def root(self) -> str:
        if not self.peaks:
            return sha256(b"").hex()
        node = self.peaks[-1][0]
        for peak, _ in reversed(self.peaks[:-1]):
            node = sha256(b"\x01" + peak + node)
        return node.hex()


def seal_digest(organisation: str, seal: dict[str, Any]) -> str:
    """SHA-256 over six lines, each ended by a line feed."""
    lines = ("kilotoken seal 1", organisation, seal["day"], seal["event_count"], seal["root"], seal["previous_digest"])
    return sha256("".join(f"{line}\n" for line in lines).encode()).hex()


def check_chain(manifest: dict[str, Any], heads: Iterable[str] = ()) -> list[str]:
    """What is wrong with the chain of seals; `heads` are digests that must be part of it."""
    findings: list[str] = []
    previous, day_before = NO_PREVIOUS, ""
    for seal in manifest["seals"]:
        if seal["previous_digest"] != previous:
            findings.append(f"{seal['day']}: the seal does not continue the one before it ({day_before or 'none'}).")
        if seal["day"] <= day_before:
            findings.append(f"{seal['day']}: the seal follows that of {day_before}; days must rise.")
        if seal_digest(manifest["organisation"]["id"], seal) != seal["digest"]:
            findings.append(f"{seal['day']}: the seal's digest does not follow from its figures.")
        previous, day_before = seal["digest"], seal["day"]
    for head in sorted(set(heads) - {seal["digest"] for seal in manifest["seals"]}):
        findings.append(f"No seal has the digest {head}: the chain was cut off or written anew.")
    return findings


# --- Events against seals ---------------------------------------------------------------------------------------------


class Days:
    """The events against the seals, day by day as the file goes."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        first, last = manifest["from"], manifest["to"]
        self.expected = {seal["day"]: seal for seal in manifest["seals"] if first <= seal["day"] <= last}
        self.findings: list[str] = []
        self.checked = 0
        self.day, self.place, self.tree = "", b"", Tree()

    def add(self, number: int, event: dict[str, Any]) -> None:
        day, place = event["received_at"][:10], leaf_place(event)
        if day != self.day:
            self._finish_day()
            if day < self.day or day not in self.expected:
                self.findings.append(f"line {number}: an event received on {day}, of which the export has no seal.")
            self.day, self.tree = day, Tree()
        elif place <= self.place:
            self.findings.append(f"line {number}: {_named(event)} is out of order or there twice.")
        self.place = place
        self.tree.add(leaf_content(event))

    def finish(self) -> list[str]:
        self._finish_day()
        for day, seal in self.expected.items():
            self.findings.append(f"{day}: {seal['event_count']} events are sealed and none are here.")
        return self.findings

    def _finish_day(self) -> None:
        seal = self.expected.pop(self.day, None)
        if seal is None:
            return
        self.checked += 1
        if self.tree.count != seal["event_count"]:
            self.findings.append(f"{self.day}: {seal['event_count']} events are sealed, {self.tree.count} are here.")
        elif self.tree.root() != seal["root"]:
            self.findings.append(f"{self.day}: an event was changed: the root of the events is not the sealed one.")


def _named(event: dict[str, Any]) -> str:
    return f"event {event['id']} of {event['source']}"


# --- One event against its proof --------------------------------------------------------------------------------------

LEAF_NAMES = ("source", "id", "type", "subject", "time", "time_assumed", "data")


def check_proof(event: dict[str, Any], proof: dict[str, Any], head: str | None = None) -> list[str]:
    """What is wrong with an event or the proof for it."""
    findings = []
    proved = {name: parse_exactly(proof["leaf"])[place] for place, name in enumerate(LEAF_NAMES, start=1)}
    if leaf_content(proved) != proof["leaf"].encode():
        findings.append("The proof's leaf is no canonical event.")
    claimed = as_sealed(event, proved)
    for name in LEAF_NAMES:
        if canonical_json(claimed[name]) != canonical_json(proved[name]):
            findings.append(f"The event's {name} is not the one that was sealed.")
    seal, leaf = proof["seal"], sha256(b"\x00" + proof["leaf"].encode())
    if leaf.hex() != proof["leaf_hash"]:
        findings.append("The hash of the leaf is not the one in the proof.")
    if proof["size"] != seal["event_count"]:
        findings.append("The proof and its seal disagree about the number of events.")
    path = [bytes.fromhex(node) for node in proof["path"]]
    if root_of_path(leaf, proof["index"], proof["size"], path) != seal["root"]:
        findings.append(f"The path does not lead to the root that was sealed for {seal['day']}.")
    if seal_digest(proof["organisation"], seal) != seal["digest"]:
        findings.append(f"{seal['day']}: the seal's digest does not follow from its figures.")
    if head and head != seal["digest"]:
        findings.append(f"The seal of {seal['day']} does not have the digest {head}.")
    return findings


def as_sealed(event: dict[str, Any], proved: dict[str, Any]) -> dict[str, Any]:
    """An event, as sent or as exported, in the terms of its leaf; without a time, that of its receipt was sealed."""
    claimed = {name: event.get(name) for name in LEAF_NAMES}
    claimed["data"] = event.get("data") or {}
    claimed["time_assumed"] = event.get("time_assumed", event.get("time") is None)
    if event.get("time") is None:
        claimed["time"] = proved["time"]
    else:
        claimed["time"] = moment_of(event["time"]).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return claimed


def root_of_path(leaf: bytes, index: int, size: int, path: list[bytes]) -> str:
    """The root to which a leaf's path leads (RFC 9162, section 2.1.3.2); empty if it leads nowhere."""
    place, last, node = index, size - 1, leaf
    if not 0 <= place <= last:
        return ""
    for sibling in path:
        if last == 0:
            return ""
        if place % 2 or place == last:
            node = sha256(b"\x01" + sibling + node)
            while place and not place % 2:
                place, last = place // 2, last // 2
        else:
            node = sha256(b"\x01" + node + sibling)
        place, last = place // 2, last // 2
    return "" if last else node.hex()


def verify_proof(event_path: str, proof_path: str, head: str | None = None) -> tuple[dict[str, int], list[str]]:
    try:
        findings = check_proof(_load(event_path, parse_exactly), _load(proof_path), head)
    except (LookupError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise NotAnExportError(f"{event_path} and {proof_path} are no event and its proof ({error!r})") from error
    return {"events": 1, "seals": 1}, findings


# --- The program ------------------------------------------------------------------------------------------------------


def verify(
    events_path: str, manifest_path: str, invoice_path: str | None = None, head: str | None = None
) -> tuple[dict[str, int], list[str]]:
    """(what was checked, what is wrong) of the files at these paths."""
    manifest = _load(manifest_path)
    if manifest.get("format") != FORMAT:
        raise NotAnExportError(f"{manifest_path} is not a manifest of format {FORMAT}.")
    invoice = _load(invoice_path) if invoice_path else {}
    findings = check_chain(manifest, _noted(head, invoice))
    days = Days(manifest)
    quantities = Quantities(invoice, manifest) if invoice_path else None
    events = 0
    with localcontext() as context, open(events_path, encoding="utf-8", newline="\n") as lines:
        # Sums stay exact: values have at most 24 digits before the point and 18 after it.
        context.prec = 200
        for number, line in enumerate(lines, start=1):
            event = _parse_line(line, number, events_path)
            days.add(number, event)
            if quantities:
                quantities.add(event)
            events += 1
        if quantities and quantities.needs_second_reading:
            lines.seek(0)
            for number, line in enumerate(lines, start=1):
                quantities.remember(_parse_line(line, number, events_path))
            quantities.settle()
        findings += days.finish()
        findings += quantities.finish() if quantities else []
    checked = {"seals": len(manifest["seals"]), "days": days.checked, "events": events}
    checked["readings"] = sum(map(len, quantities.readings.values())) if quantities else 0
    return checked, findings


def _noted(head: str | None, invoice: dict[str, Any]) -> list[str]:
    """Digests that the chain must contain: the one noted by hand and the one on the invoice."""
    on_invoice = invoice.get("evidence", {}).get("seal")
    return ([head] if head else []) + ([on_invoice["digest"]] if on_invoice else [])


def _load(path: str, parse: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            parsed = parse(file.read())
    except (OSError, ValueError) as error:
        raise NotAnExportError(f"{path}: {error}") from error
    if not isinstance(parsed, dict):
        raise NotAnExportError(f"{path} is not a JSON object.")
    return parsed


def _parse_line(line: str, number: int, path: str) -> dict[str, Any]:
    try:
        event = parse_exactly(line)
        date.fromisoformat(event["received_at"][:10])
        leaf_content(event)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise NotAnExportError(f"{path}, line {number}: not an exported event ({error!r})") from error
    return event


def main() -> int:
    parser = argparse.ArgumentParser(description="Check an export of Kilotoken against its seals, and an invoice.")
    parser.add_argument("events", help="events.ndjson of the export; or the word proof")
    parser.add_argument("manifest", help="manifest.json of the export; or an event")
    parser.add_argument("invoice", nargs="?", help="an invoice as GET /v1/invoices/NUMBER answers it; or a proof")
    parser.add_argument("--head", help="a seal's digest that you noted earlier: the chain must contain it")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    try:
        if options.events == "proof" and options.invoice:
            checked, findings = verify_proof(options.manifest, options.invoice, options.head)
        else:
            checked, findings = verify(options.events, options.manifest, options.invoice, options.head)
    except (NotAnExportError, KeyError, OSError) as error:
        sys.stderr.write(f"Cannot check this: {error}\n")
        return 2
    sys.stdout.write((_as_json if options.json else _as_text)(checked, findings) + "\n")
    return 1 if findings else 0


def _as_json(checked: dict[str, int], findings: list[str]) -> str:
    return json.dumps({"checked": checked, "findings": findings}, indent=2, ensure_ascii=False)


def _as_text(checked: dict[str, int], findings: list[str]) -> str:
    lines = ["Checked " + ", ".join(f"{count} {what}" for what, count in checked.items()) + "."]
    lines += [f"WRONG  {finding}" for finding in findings[:MOST_FINDINGS]]
    if len(findings) > MOST_FINDINGS:
        lines.append(f"WRONG  and {len(findings) - MOST_FINDINGS} more.")
    lines.append("Not everything agrees." if findings else "Everything agrees.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
