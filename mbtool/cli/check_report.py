"""Carrying out ``mbtool check``: check files and set, apply the policy, write what was found in every form."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from mbtool.check.boot_set import open_set
from mbtool.check.image import Image
from mbtool.check.policy import Policy
from mbtool.check.report import UNREADABLE, Problem, at_least, check_asked, check_set
from mbtool.check.written import of_xen_cfg, placed
from mbtool.errors import InputError, MbtoolError
from mbtool.model import Severity
from mbtool.render.problems import problem_json, problem_lines, summary
from mbtool.render.style import Style, printable
from mbtool.source import Limits, open_file, open_stdin

SET = "the set"
ASKED = ("firmware", "require", "loaders", "secure_boot", "sbat_level")
"""What may be asked of boot entries as well as of the set of the command line."""


@dataclass(frozen=True)
class Output:
    """Where the results go: text or JSON to ``out``; SARIF and JUnit to files, "-" for ``out`` in place of text.

    ``force``: older files are replaced; ``lines``: JSON as a line per file.
    """

    out: TextIO
    json: bool
    sarif: Path | None
    junit: Path | None
    force: bool = False
    lines: bool = False

    def ready(self) -> None:
        """Refuse at once what would fail when all is done. Raises InputError."""
        from mbtool.build.output import writable_target

        paths = [path for path in (self.sarif, self.junit) if path is not None]
        files = [path for path in paths if str(path) != "-"]
        if len(paths) - len(files) + self.json > 1:
            raise InputError("one document can be printed", expected="one of --json, --sarif - and --junit -")
        for path in files:
            writable_target(path, force=self.force)
        if len({path.resolve() for path in files}) < len(files):
            raise InputError("is to be written twice, by --sarif and --junit", source=str(files[0]))

    @property
    def reports(self) -> bool:
        """Whether anything is written when all is done."""
        return self.sarif is not None or self.junit is not None

    @property
    def text(self) -> bool:
        """Whether ``out`` is for people."""
        return not self.json and str(self.sarif) != "-" and str(self.junit) != "-"


@dataclass(frozen=True)
class Checked:
    """A file or the set: problems, those that the policy ignores with its reasons; or why there are none.

    ``about``: the file that stands for a set.
    """

    subject: str
    problems: Sequence[Problem] = ()
    ignored: Sequence[tuple[Problem, str]] = ()
    error: MbtoolError | None = None
    about: str = ""

    def status(self, least: Severity) -> int:
        """The exit status that it asks for."""
        if self.error is not None or any(problem.id in (UNREADABLE, "LIMIT") for problem in self.problems):
            return 2
        return int(any(at_least(problem.severity, least) for problem in self.problems))


def conduct(
    files: Sequence[str],
    parts: Mapping[str, Any],
    words: Mapping[str, Any],
    policy: Policy,
    least: Severity,
    limits: Limits,
    output: Output,
    root: Path | None = None,
) -> int:
    """Check the system below ``root``, each file, the set, as far as they are given; the worst exit status of all.

    ``words``: of the set; what ASKED names counts for boot entries, too.
    """
    given = any(path is not None for path in parts.values())
    if not given and not files and root is None:
        raise InputError("nothing to check", expected="files, or the parts of a set (--xen, --kernel, …)")
    if "" in files:
        raise InputError("the name of a file is empty")
    asked = {name: words[name] for name in ASKED if name in words}
    if not given and any(value is not None for name, value in words.items() if name not in asked):
        raise InputError("a set needs files", expected="--xen, --kernel, --initrd or --xen-cfg")
    judge = _Judge(policy, limits, asked)
    results: list[Checked] = []
    for result in (*(judge.system(root, root=True) if root else ()), *chain.from_iterable(map(judge.path, files))):
        results.append(result)
        show(result, output)
    if given:
        with open_set(**parts, **words, limits=limits) as boot:
            found = placed([*check_set(boot), *policy.local(boot)], of_xen_cfg(boot))
            kept, ignored = policy.judge(list(found))
            about = next((image.path for image in (boot.kernel, boot.xen, boot.initrd) if image), "")
        results.append(Checked(SET, kept, ignored, about=about))
        show(results[-1], output)
    write(results, output, least)
    return max(result.status(least) for result in results)


class _Judge:
    """Checks what is named on the command line, and applies the policy."""

    def __init__(self, policy: Policy, limits: Limits, asked: Mapping[str, Any]) -> None:
        self._policy = policy
        self._limits = limits
        self._asked = asked

    def path(self, path: str) -> Iterator[Checked]:
        """A directory's boot entries, or a file, and the boot entries in it when it is a disk."""
        return self.system(Path(path)) if Path(path).is_dir() else self._file(path)

    def system(self, folder: Path, *, root: bool = False) -> Iterator[Checked]:
        """Each boot entry below a directory, and what they are together."""
        from mbtool.check.system import check_system

        try:
            for subject, problems in check_system(
                folder, self._limits, root=root, more=self._policy.local, **self._asked
            ):
                yield self._checked(subject, problems)
        except MbtoolError as error:
            yield Checked(str(folder), error=error)

    def _file(self, path: str) -> Iterator[Checked]:
        from mbtool.check.system import DISKS, check_disk

        try:
            with open_stdin() if path == "-" else open_file(path) as source:
                image = Image(path, source, self._limits)
                found = check_asked(image, self._asked)
                yield self._checked(path, found)
                if image.root.kind in DISKS:
                    for subject, problems in check_disk(image, found, more=self._policy.local, **self._asked):
                        yield self._checked(subject, problems)
        except MbtoolError as error:
            yield Checked(path, error=error)

    def _checked(self, subject: str, problems: Sequence[Problem]) -> Checked:
        kept, ignored = self._policy.judge(problems)
        return Checked(subject, kept, ignored)


def show(result: Checked, output: Output) -> None:
    """As text, at once: the next file may take its time."""
    if result.error is not None:
        sys.stdout.flush()
        print(f"mbtool: {result.error}", file=sys.stderr)
    if not output.text or result.error is not None:
        return
    style = Style.of(output.out)
    for problem in result.problems:
        for line in problem_lines(problem, style):
            print(line, file=output.out)
    line = f"{printable(result.subject)}: {summary(result.problems, len(result.ignored))}"
    print(style.bold(line), file=output.out)


def write(results: Sequence[Checked], output: Output, least: Severity) -> None:
    """What is written when all is done: the document and the reports."""
    from mbtool.render.json import dumps

    if output.json and not output.lines:
        print(dumps(_document(results), pretty=output.out.isatty()), file=output.out)
    if output.sarif is not None:
        from mbtool.render.sarif import sarif

        problems = [problem for result in results for problem in result.problems]
        ignored = [pair for result in results for pair in result.ignored]
        about = next((result.about for result in results if result.about), "")
        _to(output.sarif, dumps(sarif(problems, ignored, about), pretty=True) + "\n", output)
    if output.junit is not None:
        _to(output.junit, _junit(results, least), output)


def _document(results: Sequence[Checked]) -> dict[str, Any]:
    from mbtool.render.json import error_json

    checked = [checked_json(result) for result in results if result.error is None]
    errors = [error_json(result.subject, result.error) for result in results if result.error is not None]
    return {"schema": "mbtool/check/1", "checked": checked, "errors": errors}


def checked_json(result: Checked) -> dict[str, Any]:
    """One of the document's ``checked``."""
    problems = [problem_json(problem) for problem in result.problems]
    problems += [problem_json(problem, reason) for problem, reason in result.ignored]
    return {"subject": result.subject, "problems": problems}


def _junit(results: Sequence[Checked], least: Severity) -> str:
    """A case per file or set, and one per problem that fails it."""
    from mbtool.render.junit import Case, junit
    from mbtool.render.sarif import LINES

    cases = []
    for result in results:
        failing = [problem for problem in result.problems if at_least(problem.severity, least)]
        text = "\n".join(line for problem in result.problems for line in problem_lines(problem, Style()))
        if result.error is not None or not failing:
            cases.append(Case(result.subject, 0, error=str(result.error or ""), log=text))
        for problem in failing:
            evidence = problem.evidence
            name = f"{result.subject}: {problem.id} {evidence.file}"
            failure = "\n".join(problem_lines(problem, Style()))
            file = evidence.written or ("" if evidence.file.endswith(LINES) else evidence.file)
            cases.append(Case(name, 0, failure=failure, file=file, line=evidence.line))
    return junit("mbtool check", cases)


def _to(path: Path, text: str, output: Output) -> None:
    if str(path) == "-":
        output.out.write(text)
        return
    from mbtool.build.output import write_file

    write_file(path, text.encode("utf-8"), force=output.force)
