"""The parts of the program, as CycloneDX has them: each crate that is linked in, with its licence and checksum.

Cargo knows them all but one: SQLite, which one of the crates brings as source in C.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from contents import ROOT

PROGRAM = "pyinotifyd"
# A crate: its name and version.
Crate = tuple[str, str]


def sbom(target: str, timestamp: str) -> dict[str, Any]:
    packages = crates(target)
    sums = checksums()
    links = linked(target)
    top = next(crate for crate in links if crate[0] == PROGRAM)
    components = [component(packages[crate], sums.get(crate)) for crate in links if crate != top]
    dependencies = {reference(crate): sorted(map(reference, others)) for crate, others in links.items()}
    bindings = next(crate for crate in links if crate[0] == "libsqlite3-sys")
    engine = sqlite(packages[bindings])
    components.append(engine)
    dependencies[reference(bindings)].append(engine["bom-ref"])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp,
            "component": {**component(packages[top], None), "type": "application"},
        },
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": [{"ref": ref, "dependsOn": others} for ref, others in sorted(dependencies.items())],
    }


def cargo(*words: str) -> str:
    return subprocess.run(["cargo", *words, "--locked"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def crates(target: str) -> dict[Crate, dict[str, Any]]:
    """What is said of each crate of the workspace, linked or not."""
    metadata = json.loads(cargo("metadata", "--format-version=1", f"--filter-platform={target}"))
    return {(package["name"], package["version"]): package for package in metadata["packages"]}


def linked(target: str) -> dict[Crate, set[Crate]]:
    """What each crate links with; what only builds or tests it, or runs in the compiler, isn't in the program."""
    options = [f"--package={PROGRAM}", "--edges=normal,no-proc-macro", f"--target={target}", "--prefix=depth"]
    links: dict[Crate, set[Crate]] = {}
    way: list[Crate] = []
    for depth, name, version in re.findall(r"^(\d+)(\S+) v(\S+)", cargo("tree", *options), re.M):
        crate = (name, version)
        del way[int(depth) :]
        if way:
            links[way[-1]].add(crate)
        links.setdefault(crate, set())
        way.append(crate)
    return links


def checksums() -> dict[Crate, str]:
    """Those of the registry; crates of our own have none."""
    entry = re.compile(r'^name = "(.*)"\nversion = "(.*)"\nsource = .*\nchecksum = "(.*)"$', re.M)
    found = entry.findall((ROOT / "Cargo.lock").read_text())
    return {(name, version): checksum for name, version, checksum in found}


def reference(crate: Crate) -> str:
    return f"pkg:cargo/{crate[0]}@{crate[1]}"


def component(package: dict[str, Any], checksum: str | None) -> dict[str, Any]:
    name, version = package["name"], package["version"]
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference((name, version)),
        "name": name,
        "version": version,
        # Some crates still have the separator of times before SPDX.
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
    }
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if checksum is not None:
        made["purl"] = reference((name, version))
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return made


def sqlite(bindings: dict[str, Any]) -> dict[str, Any]:
    header = (Path(bindings["manifest_path"]).parent / "sqlite3/sqlite3.h").read_text()
    found = re.search(r'^#define SQLITE_VERSION\s+"(.*)"', header, re.M)
    assert found is not None, "SQLite's header has its version"
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/sqlite@{found[1]}",
        "name": "sqlite",
        "version": found[1],
        "licenses": [{"license": {"id": "blessing"}}],
        "description": f"The library that keeps the state, as the crate {bindings['name']} brings it",
        "purl": f"pkg:generic/sqlite@{found[1]}",
        "cpe": f"cpe:2.3:a:sqlite:sqlite:{found[1]}:*:*:*:*:*:*:*",
    }
