"""Applying the rules: what the formats found and what the rules find, as one list of problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from mbtool.check.boot_set import BootSet
from mbtool.check.catalogue import Words, catalogue
from mbtool.check.image import Image
from mbtool.check.loading import KERNEL_IMAGE, started
from mbtool.check.revocation import revoked
from mbtool.check.rule import IMAGE_RULES, SET_RULES, Evidence
from mbtool.check.trees import TreeFile
from mbtool.errors import LimitError, MbtoolError, UnknownFormatError
from mbtool.model import Severity
from mbtool.record import record
from mbtool.source import Limits

SUBJECTS = (
    *("loading", "segments", "multiboot", "linux", "efi", "xen", "dom0", "kernel_config"),
    *("initrd", "initrd_linux", "initrd_init", "initrd_modules"),
    *("command_lines", "xen_values", "linux_options", "contradictions", "fatal_options", "repeated"),
    *("xen_cfg", "secure_boot", "revocation"),
)
"""The modules of ``mbtool.check`` that hold rules, in the order in which a boot meets them."""
FORM = ("elf", "multiboot")
"""Subjects of rules about the form of a kernel, on which loaders differ."""
WRAPPING = ("linux", "efi")
"""Those about what is around the kernel proper in a bzImage: Xen unpacks that by itself, and runs no more of it."""
SIGNATURES = "PE-SIGNATURE-"
"""How rules about signatures begin, which nobody looks at without Secure Boot."""
GRUB_SAYS = "error: "
"""How GRUB's messages begin."""
FIRMWARE_SAYS = "BdsDxe: "
"""How those of firmware begin, where that and no loader starts a program."""
ONLY_OF_INITRDS = ("INITRD-NO-INIT", "INITRD-ONLY-MICROCODE")
"""What matters of an archive only where it is dom0's or Linux' initrd."""
UNREADABLE = "UNREADABLE"
LIMIT = "LIMIT"


@record
class Problem:
    """A broken rule: the evidence and the words about it."""

    evidence: Evidence
    words: Words
    severity: Severity

    @property
    def id(self) -> str:
        return self.words.id

    @property
    def console(self) -> str:
        """What the machine prints because of it, "" when nothing is known to be printed."""
        return self.evidence.console or self.words.console

    @property
    def remedy(self) -> str:
        return self.evidence.remedy or self.words.remedy


def check_image(image: Image) -> list[Problem]:
    """One image's own soundness. Raises MbtoolError when it cannot be read or is of no known format."""
    _load()
    from mbtool.check.multiboot import is_part

    found = [*_findings(image)]
    for id_, rule in IMAGE_RULES.items():
        found += _applied(id_, rule(image))
    if is_part(image):
        found = [replace(each, severity=Severity.WARNING) for each in found]
    if not found and image.content.kind == "data":  # a sound stream around something else
        raise UnknownFormatError(image.path, (), str(image.content.get("seems") or ""))
    return _ordered(found)


def check_asked(image: Image, asked: Mapping[str, Any]) -> list[Problem]:
    """As ``check_image``, and what is ``asked`` of sets (as in BootSet), of the image as a set of its own.

    Without a question that is done of an initrd that has an init, and of a kernel that carries an initrd. Of disks,
    and whatever else no loader starts, the programs in them are compared with the SBAT level.
    """
    found = check_image(image)
    kind = image.content.kind
    if not any(asked.values()) and not image.content.get("init") and image.section(".initrd") is None:
        return found
    if kind in ("cpio", "initrd"):
        boot = BootSet(initrd=image, limits=image.limits, **asked)
    elif kind in ("bzimage", "elf", "pe"):
        xen = image.find("xen-hypervisor") is not None
        boot = BootSet(image if xen else None, None if xen else image, limits=image.limits, **asked)
    else:
        level = asked.get("sbat_level")
        return _ordered([*found, *_applied("SBAT-REVOKED", revoked(image, level) if level else ())])
    # Nobody said that the file is a kernel.
    return [each for each in _weighed(boot, found) if each.id != KERNEL_IMAGE]


def check_set(boot: BootSet) -> list[Problem]:
    """Each image of the set for itself, then whether they fit together.

    An image that cannot be read is a problem of the set: it would not boot.
    """
    return _weighed(boot, [item for image in boot.images for item in _alone(image)])


def _alone(image: Image) -> list[Problem]:
    """What is wrong with a file of a set by itself; that it cannot be read is such a thing."""
    try:
        return check_image(image)
    except MbtoolError as error:
        id_ = LIMIT if isinstance(error, LimitError) else UNREADABLE
        return [problem(id_, replace(Evidence.of(error, image.path), file=image.path))]


def _weighed(boot: BootSet, alone: list[Problem]) -> list[Problem]:
    """All that is wrong with a set, ``alone`` being what is wrong with its files.

    Who takes a file has the last word on its form, Xen's builder on that of dom0's kernel, the loader asked for on
    what it starts: what they take all the same is no error.
    """
    together = list(_together(boot.whole()))
    if boot.modules:
        alone = [each for each in alone if each.id not in ONLY_OF_INITRDS or _of_initrd(boot, each)]
    taken: dict[str, tuple[str, ...]] = {}
    if boot.on_xen and boot.kernel is not None:
        taken[boot.kernel.path] = FORM if boot.secure_boot else (*FORM, *WRAPPING)
    image = started(boot)
    if boot.loaders and image is not None:
        taken.setdefault(image.path, FORM)
    for problem in together:
        if problem.severity == Severity.ERROR:
            taken.pop(problem.evidence.file, None)
    again = {(each.id, each.evidence.file) for each in together if each.id == ONLY_OF_INITRDS[0]}
    alone = [each for each in alone if (each.id, each.evidence.file) not in again]
    alone = [
        replace(problem, severity=Severity.WARNING)
        if problem.severity == Severity.ERROR
        and (problem.words.subject in taken.get(problem.evidence.file, ()) or _nobody_looks(boot, problem))
        else problem
        for problem in alone
    ]
    return _ordered([_said(boot, problem) for problem in (*alone, *together)])


def _of_initrd(boot: BootSet, problem: Problem) -> bool:
    return boot.initrd is not None and boot.initrd.path == problem.evidence.file


def _nobody_looks(boot: BootSet, problem: Problem) -> bool:
    """Whether the problem is with what only firmware or shim look at, and they do not in this set."""
    if boot.secure_boot:
        return False
    return problem.id.startswith(SIGNATURES) or (boot.on_bios and problem.words.subject == "efi")


def _said(boot: BootSet, problem: Problem) -> Problem:
    """What the machine prints is what the loader asked for prints, not what GRUB would."""
    if not boot.loaders or problem.id == "LOADER-REFUSES":
        return problem
    printed = next((words for row in boot.loaders if (words := row.words_for(problem.id))), "")
    grub = any(row.name == "grub" for row in boot.loaders)
    others = FIRMWARE_SAYS if grub else (GRUB_SAYS, FIRMWARE_SAYS)
    if not printed and not problem.console.startswith(others):
        return problem
    evidence = replace(problem.evidence, console=printed)
    return replace(problem, evidence=evidence, words=replace(problem.words, console=""))


def _together(boot: BootSet) -> Iterator[Problem]:
    """What is wrong with the set."""
    _load()
    for id_, rule in SET_RULES.items():
        yield from _applied(id_, rule(boot))


class SetChecker:
    """Checks many sets that share files: each file is opened and judged once. Use with ``with``."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open = ExitStack()
        self._images: dict[str, Image] = {}
        self._judged: set[str] = set()

    def __enter__(self) -> SetChecker:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def image(self, file: TreeFile | None) -> Image | None:
        """The file's image; None for None. Raises InputError when it cannot be read."""
        return None if file is None else self.opened(file)

    def opened(self, file: TreeFile) -> Image:
        """The file's image. Raises InputError when it cannot be read."""
        if file.key not in self._images:
            self._images[file.key] = Image(file.name, self._open.enter_context(file.open()), self.limits)
        return self._images[file.key]

    def joined(self, files: Sequence[TreeFile]) -> Image | None:
        """The initrd that Linux gets of several files; None of none. Raises InputError when one cannot be read."""
        if len(files) < 2:
            return self.image(next(iter(files), None))
        key = "\0".join(file.key for file in files)
        if key not in self._images:
            self._images[key] = Image.joined([self.opened(file) for file in files], self.limits)
        return self._images[key]

    def check(self, boot: BootSet) -> list[Problem]:
        """As ``check_set``, for images from here; what is wrong with a file alone comes with its first set."""
        new = [image for image in boot.images if image.path not in self._judged]
        self._judged.update(image.path for image in new)
        return _weighed(boot, [item for image in new for item in _alone(image)])


@cache
def _load() -> None:
    for name in SUBJECTS:
        import_module(f"mbtool.check.{name}")


def _findings(image: Image) -> Iterator[Problem]:
    """What the formats found."""
    for place in image.places:
        for finding in place.node.findings:
            yield problem(
                finding.id, Evidence.of_finding(finding, image.path, place.path, place.start, place.node.fields)
            )


def _applied(id_: str, evidence: Iterable[Evidence]) -> Iterator[Problem]:
    for item in evidence:
        yield problem(item.id or id_, item)


def problem(id_: str, evidence: Evidence) -> Problem:
    """Evidence with the words about the rule."""
    words = catalogue().get(id_) or Words(id_, "", id_)
    return Problem(evidence, words, evidence.severity or words.severity or Severity.ERROR)


_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def at_least(severity: Severity, limit: Severity) -> bool:
    """Whether a severity is as bad as a limit, or worse."""
    return _RANK[severity] <= _RANK[limit]


def _ordered(problems: Sequence[Problem]) -> list[Problem]:
    """The worst first, else as found; what was found by two ways is said once, where it was found best."""
    placed = {_what(problem) for problem in problems if problem.evidence.offset is not None}
    distinct: dict[object, Problem] = {}
    for problem in problems:
        offset = problem.evidence.offset
        if offset is not None or _what(problem) not in placed:
            distinct.setdefault((_what(problem), offset, problem.evidence.field, problem.evidence.line), problem)
    return sorted(distinct.values(), key=lambda problem: _RANK[problem.severity])


def _what(problem: Problem) -> tuple[str, str, str]:
    return problem.id, problem.evidence.file, problem.evidence.message
