"""Python, the packages beside us and the hub: told from their own metadata, with little imported."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hkdcli.doctor.examination import Examination, Finding
from hkdcli.runs import PACKAGES

_EXTRAS = {"parquet": "Parquet files and datasets folders", "smolvlm": "SmolVLM models"}
_TOOLS = ("dev", "bench")
_SOURCE = "hkd is not installed, so nothing says which versions it needs"


def examine_environment(examination: Examination) -> None:
    """Check Python, packages, extras and what is set about the hub.

    Args:
        examination: Told what was found.
    """
    examination.look("env.python", check_python)
    floors = read_floors()
    for package in PACKAGES:  # those that a run's manifest names; the others are one line
        examination.look(f"env.{package}", check_package, package, floors)
    examination.look("env.packages", check_others, floors)
    for extra, use in _EXTRAS.items():
        examination.look(f"env.extra.{extra}", check_extra, extra, use)
    examination.look("env.extra.vllm", check_vllm)
    examination.look("env.hub", describe_hub)


def read_floors(extra: str = "") -> dict[str, SpecifierSet]:
    """Read which versions hkd needs from its own metadata, the security floors among them.

    Args:
        extra: Those of this extra alone; "" are those that hkd always needs, with what it needs through
            transformers.

    Returns:
        Specifiers by package name, lower case; empty where hkd runs without being installed.
    """
    floors: dict[str, SpecifierSet] = {}
    for distribution in ("hkd",) if extra else ("hkd", "transformers"):
        for requirement in _read_requirements(distribution):
            marker = requirement.marker
            always = marker is None or marker.evaluate({"extra": ""})
            if always != bool(extra) and (marker is None or marker.evaluate({"extra": extra})):
                floors.setdefault(_name(requirement.name), requirement.specifier)
    return floors


def check_python() -> Finding:
    """Compare Python with what our metadata asks for."""
    version = platform.python_version()
    try:
        wanted = metadata.metadata("hkd")["Requires-Python"]
    except metadata.PackageNotFoundError:
        return Finding(f"Python {version}; {_SOURCE}", "warning", "pip install hkd")
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding(f"Python {version} (wanted {wanted})")
    return Finding(f"Python {version}; wanted {wanted}", "failed", "Make an environment with a newer Python.")


def check_package(package: str, floors: Mapping[str, SpecifierSet]) -> Finding:
    """Compare an installed package with its floor.

    Args:
        package: Its name.
        floors: What `read_floors` returned.

    Returns:
        Failed where it is missing or too old.
    """
    wanted = floors.get(_name(package))
    said = f" (wanted {wanted})" if wanted else ""
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        hint = f'pip install "{package}{wanted or ""}"'
        return Finding(f"{package} is not installed{said}", "failed", hint)
    if wanted is not None and not wanted.contains(version, prereleases=True):
        return Finding(f"{package} {version}{said}", "failed", f'pip install -U "{package}{wanted}"')
    return Finding(f"{package} {version}{said}")


def check_others(floors: Mapping[str, SpecifierSet]) -> Finding:
    """Compare all other packages that hkd needs with their floors."""
    if not _read_requirements("hkd"):
        return Finding(_SOURCE, "skipped", "pip install hkd")
    names = {_name(each.name) for each in _read_requirements("hkd")} & floors.keys() - set(PACKAGES)
    looked = {name: check_package(name, floors) for name in sorted(names)}
    wrong = {name: finding for name, finding in looked.items() if finding.status != "ok"}
    if not wrong:
        return Finding(f"{len(looked)} others, all new enough")
    wanted = " ".join(f'"{name}{floors[name]}"' for name in wrong)
    return Finding(
        "; ".join(finding.found for finding in wrong.values()), "failed", f"pip install -U {wanted}"
    )


def check_extra(extra: str, use: str) -> Finding:
    """Whether the packages of an extra are there; they need not be."""
    wanted = read_floors(extra)
    looked = [check_package(name, wanted) for name in wanted]
    if not wanted:
        return Finding(_SOURCE, "skipped", f'pip install "hkd[{extra}]"')
    found = "; ".join(finding.found for finding in looked)
    if all(finding.status == "ok" for finding in looked):
        return Finding(found)
    return Finding(f"{found}: no {use}", "skipped", f'pip install "hkd[{extra}]"')


def check_imports() -> Finding:
    """Import what models need: a package can be there, and broken.

    Returns:
        The value says whether models can be looked at.
    """
    broken = {}
    for package in ("torch", "transformers", "peft", "bitsandbytes"):
        try:
            importlib.import_module(package)
        except Exception as error:  # a library that is not found, a version that does not fit
            broken[package] = f"{package} cannot be imported: {type(error).__name__}: {error}"
    if broken:
        hint = f"pip install --force-reinstall {' '.join(broken)}"
        return Finding("; ".join(broken.values()), "failed", hint, value=False)
    return Finding("torch, transformers, peft and bitsandbytes can be imported", value=True)


def check_vllm() -> Finding:
    """Whether the engine vLLM is there; it need not be. Its program is asked, which may take a while."""
    from hkdcli.errors import SetupError
    from hkdcli.inference.vllm_program import find_vllm

    try:
        program = find_vllm()
    except SetupError as error:
        return Finding(error.message, "skipped", error.hint or "")
    return Finding(f"vLLM {program.version}")


def describe_hub() -> Finding:
    """Say whether the hub is asked, and whether there is a token; its value is never shown."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return Finding("huggingface_hub is not installed", "failed", "pip install huggingface_hub")
    from huggingface_hub import constants, get_token

    said = [
        f"{name}={os.environ[name]}"
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        if name in os.environ
    ]
    state = "offline" if constants.HF_HUB_OFFLINE else "online"
    token = "a token is there" if get_token() else "no token: gated models cannot be downloaded"
    return Finding("; ".join([f"{state}{' (' + ', '.join(said) + ')' if said else ''}", token]))


def _read_requirements(distribution: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        return []


def _name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
