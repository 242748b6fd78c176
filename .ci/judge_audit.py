"""What an audit found: `python judge_audit.py REPORT LICENCES`, see `audit`."""

import json
import sys
from pathlib import Path
from typing import Any


def judged(report: dict[str, Any], accepted: dict[str, list[str]]) -> tuple[list[str], int]:
    """Lines for the user and the exit code: 1 for a hole that is not accepted, 75 for pins that could not be looked up."""
    lines, code = [], 0
    skipped = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
    for each in report["dependencies"]:
        for hole in each.get("vulns", []):
            names = {hole["id"], *hole.get("aliases", [])}
            known, reason = accepted.get(each["name"], ("", ""))
            mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
            told = f"{each['name']} {each['version']}: {' '.join(sorted(names))}, mended in {mended}"
            lines.append(f"{told} (accepted: {reason})" if known in names else told)
            code = code if known in names else 1
    looked_up = len(report["dependencies"]) - len(skipped)
    lines.append(f"audit: {looked_up} of {len(report['dependencies'])} pins were looked up")
    if skipped:
        lines.append(f"audit: not looked up: {' '.join(skipped[:12])}{' ...' if len(skipped) > 12 else ''}")
    return lines, code or (75 if skipped else 0)


def main(report: str, licences: str) -> int:
    """Judge one report."""
    accepted = json.loads(Path(licences).read_text(encoding="utf-8"))["accepted"]
    lines, code = judged(json.loads(Path(report).read_text(encoding="utf-8")), accepted)
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
