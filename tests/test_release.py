"""What a release is made from: the check of versions, and workflows that are pinned and minimal."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from support import tool

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GOOD = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n- Much.\n"


@pytest.fixture(scope="module")
def check_release() -> ModuleType:
    return tool("check_release")


@pytest.mark.parametrize(
    ("kind", "name", "version", "changelog", "found"),
    [
        ("tag", "v0.2.0", "0.2.0", GOOD, ""),
        ("branch", "main", "0.2.0", GOOD, ""),
        ("tag", "v0.2.0", "0.1.0", GOOD, "the tag v0.2.0 is not v0.1.0"),
        ("tag", "0.2.0", "0.2.0", GOOD, "the tag 0.2.0 is not v0.2.0"),
        ("branch", "main", "0.2", GOOD, "none of semantic versioning"),
        ("tag", "v0.2.0-rc.1", "0.2.0-rc.1", GOOD, "no section [0.2.0-rc.1] with a date"),
        ("tag", "v0.2.0", "0.2.0", GOOD.replace(" - 2026-12-01", ""), "with a date"),
        ("tag", "v0.2.0", "0.2.0", GOOD.partition("\n###")[0] + "\n", "is empty"),
        ("tag", "v0.2.0", "0.2.0", GOOD.replace("sed]\n", "sed]\n- New.\n"), "is not empty"),
        ("branch", "main", "0.2.0", GOOD.replace("Unreleased", "0.3.0"), "no section [Unrel"),
    ],
)
def test_what_does_not_agree_is_not_released(
    check_release: ModuleType, kind: str, name: str, version: str, changelog: str, found: str
) -> None:
    said = check_release.problems(kind, name, version, changelog)
    assert bool(said) == bool(found), said
    assert not found or any(found in it for it in said)


def test_notes_are_the_section_of_the_version(check_release: ModuleType) -> None:
    assert check_release.sections(GOOD)["0.2.0"] == ("2026-12-01", "### Added\n- Much.")


def test_this_checkout_can_be_released_one_day(check_release: ModuleType) -> None:
    assert check_release.main(["branch", "main"]) == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_permissions_are_minimal(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    for it in uses:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", it), it
    # One version of each action, so that a look at one is a look at all.
    assert len(set(uses)) == len({it.partition("@")[0] for it in uses})
    assert "\npermissions: {}\n" in text, "nothing is allowed unless a job asks for it"
    jobs = re.split(r"^  (\w+):\n", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    for name, job in zip(jobs[1::2], jobs[2::2], strict=True):
        assert "    permissions:\n" in job and "    timeout-minutes: " in job, name
        checkouts = job.count("actions/checkout@")
        assert job.count("persist-credentials: false") == checkouts, name
        written = set(re.findall(r"^      ([\w-]+): write", job, re.MULTILINE))
        expected = {"publish": {"id-token", "attestations"}, "announce": {"contents"}}
        assert written == expected.get(name, set()), name
        # An expression in a script could be code of whoever named a branch.
        for script in re.findall(r"run: (.*(?:\n {10,}.*)*)", job):
            assert "${{" not in script, script


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_name_files_that_exist(path: Path) -> None:
    named = re.findall(r"\b((?:tests|tools)/[\w.]+\.(?:py|sh))\b", path.read_text())
    assert named and all((ROOT / it).is_file() for it in named), named


def test_the_number_of_wheels_is_that_of_the_jobs() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    libc, target = (
        len(re.search(rf"{key}: \[(.*)\]", text)[1].split(","))  # type: ignore[index]
        for key in ("libc", "target")
    )
    windows = len(re.findall(r"- target: \S+-windows-msvc", text))
    wheels = libc * target + windows + text.count("target: universal2-apple-darwin")
    assert f"test \"$(find dist -name '*.whl' | wc -l)\" -eq {wheels}" in text


@pytest.mark.parametrize("name", ["bug", "memory"])
def test_reports_ask_for_what_helps(name: str) -> None:
    text = (ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text()
    for asked in ("`vk-mem info --json`", "`vk-mem doctor --json`", "simulated device"):
        assert asked in text
