"""Scans of a BIDS folder: of the files in it, the FLAIR, T1w and, if it has one, lesion mask of each scan."""

import os
import re
import textwrap
from collections import defaultdict, namedtuple
from functools import reduce
from pathlib import Path

import bids2table

NAMED = {"flair": "*_FLAIR.nii[.gz]", "t1w": "*_T1w.nii[.gz]", "lesions": "*_label-lesion_mask.nii[.gz]"}
LIKE = {"flair": "flair", "t1w": "t1|mprage", "lesions": "lesion|mask|seg|roi|wmh|lst"}  # in names of what may be meant
OTHER_MASKS = re.compile("brain|_defacemask")
PLAIN = {"sub", "ses", "datatype", "suffix", "ext"}  # entities that every file has
ACQUIRED = ("acq", "ce", "rec", "run")  # entities of an acquisition; a mask has those of the image it was drawn on
SHOWN = 10  # scans with a problem that are described; the rest is named

# path: in the folder, separated by "/".  scan: (subject, session).  kind: "" if none.  plain: no entity but PLAIN.
# acquired: {(entity, value)} of ACQUIRED.
File = namedtuple("File", ["path", "scan", "kind", "plain", "acquired"])


def bids_scans(folder, choose=""):
    """Rows {subject, session, flair, t1w, lesions} of a BIDS folder (`find_scans`).

    A scan with no file that may be meant for its lesion mask has none (""). Of several files that fit, all in one
    folder, the one without further entities is taken. choose: parts of paths, separated by commas, such as
    "acq-3D,derivatives/lesions,desc-rater1". A mask of another run, acq, ce or rec than both images does not fit. A
    part counts for the kinds of which some file has it: a file must have that folder, and must have that entity or,
    where no file of the scan has, none of its name. Images in `derivatives/` are looked at only if a part begins with
    this word. None, where nobody can choose: no message offers it. Linked folders are followed. Raises ValueError that
    lists every scan with several files that fit or with none, or parts that no file has or that are subjects or sessions.
    """
    parts = [part for part in (part.strip(" /") for part in (choose or "").split(",")) if part]
    if scans := ", ".join(part for part in parts if re.fullmatch("(sub|ses)-[^_/]+", part)):
        raise ValueError(f"choose has {scans}, but is for files, not for scans: list those wanted in a scans table")
    files = [_describe(path) for path in _images(folder)]
    pools, asked, scans = {}, {}, set()
    for kind in NAMED:
        pool = [file for file in files if file.kind == kind]
        asked[kind] = _held(parts, pool)
        if kind != "lesions" and not any(part.startswith("derivatives") for part in asked[kind]):
            pool = [file for file in pool if not file.path.startswith("derivatives/")]
            asked[kind] = _held(parts, pool)
        scans.update(file.scan for file in pool)
        pools[kind] = defaultdict(list)
        for file in pool:
            pools[kind][file.scan].append(file)
    if not scans:
        raise ValueError(f"{folder}: no scan found; data/README.md says how scans are laid out{_not_installed(folder)}")
    if unknown := [part for part in parts if not any(part in those for those in asked.values())]:
        raise ValueError(
            f"{folder}: choose has {', '.join(unknown)}, which no FLAIR, T1w or lesion mask has in its path (commas "
            "separate parts; images in derivatives/ are looked at if a part begins with that)"
        )
    rows, problems = [], defaultdict(list)
    for scan in sorted(scans):
        taken, images = {}, pools["flair"][scan] + pools["t1w"][scan]
        for kind in NAMED:
            fit = reduce(_narrow, asked[kind], pools[kind][scan])
            if len(taken) == 2:  # both images; the mask is left
                fit = [mask for mask in fit if _may_be_of(mask, taken.values(), images)]
            one_folder = len({file.path.rpartition("/")[0] for file in fit}) == 1
            one = [file for file in fit if file.plain and one_folder] if len(fit) > 1 else fit
            if len(one) == 1:
                taken[kind] = one[0]
            elif kind != "lesions" or fit or _like(files, scan, kind) or _not_installed(folder):
                problems[scan].append((kind, fit))
        paths = {"lesions": ""} | {kind: str(folder / file.path) for kind, file in taken.items()}
        rows.append({"subject": scan[0], "session": scan[1], **paths})
    if problems:
        raise ValueError(_message(folder, problems, asked, files, offered=choose is not None))
    return rows


def _images(folder):
    """Paths in the folder of the NIfTI files of subjects and derivatives; a folder that is linked twice is read once."""
    seen = {folder.resolve()}
    for at, folders, names in os.walk(folder, followlinks=True):
        at, below = Path(at), []
        for name in sorted(folders):
            real = (at / name).resolve()
            wanted = name.startswith("sub-") or name == "derivatives" if at == folder else name != "sourcedata"
            if wanted and not name.startswith(".") and real not in seen:
                seen.add(real)
                below.append(name)
        folders[:] = below
        for name in sorted(names):
            if at != folder and name.endswith((".nii", ".nii.gz")) and not name.startswith("."):
                yield (at / name).relative_to(folder).as_posix()


def _describe(path):
    of = bids2table.parse_bids_entities(path)
    kind = {"FLAIR": "flair", "T1w": "t1w", "mask": "lesions" if of.get("label") == "lesion" else ""}
    names = dict(re.findall(r"(?:^|[/_])(sub|ses)-([^/_.]+)", path))  # the file's own name comes last
    kind = kind.get(of.get("suffix"), "") if "sub" in names and of["ext"] in (".nii", ".nii.gz") else ""
    plain = set(of) <= PLAIN | ({"label"} if kind == "lesions" else set())
    acquired = {(entity, of[entity].lstrip("0")) for entity in ACQUIRED if entity in of}  # run-01 is run-1
    return File(path, (names.get("sub", ""), names.get("ses", "")), kind, plain, acquired)


def _may_be_of(mask, taken, images):
    """False if the mask is of an acquisition that the images taken differ from, or that another image of the scan is of."""
    own, others = (set().union(*(file.acquired for file in those)) for those in (taken, images))
    return not any(pair in others or pair[0] in dict(own) for pair in mask.acquired - own)


def _held(parts, files):
    """Those of the parts that some file has between two separators of its path."""
    return [part for part in parts if any(_has(file, part) for file in files)]


def _has(file, part, end="(?:[/_.]|$)"):
    return re.search(f"(?:^|[/_]){re.escape(part)}{end}", file.path)


def _narrow(files, part):
    """The files that have the part; of an entity that none has, those without another value of it."""
    having, entity = [file for file in files if _has(file, part)], part.partition("-")[0] + "-"
    return having if having or "/" in part else [file for file in files if not _has(file, entity, end="")]


def _message(folder, problems, asked, files, offered):
    """What is wrong, and its cure. problems: {scan: [(kind, files that fit: several or none)]}."""
    names = ["sub-" + subject + (session and f"_ses-{session}") for subject, session in problems]
    lines = [f"{folder}: {len(problems)} scan(s) without exactly one file of each kind"]
    for name, scan in zip(names[:SHOWN], problems, strict=False):
        for kind, fit in problems[scan]:
            like = fit or _like(files, scan, kind)
            paths = ", ".join(file.path for file in like[:6]) + (f" and {len(like) - 6} more" if len(like) > 6 else "")
            other = ["/".join(ACQUIRED) + " as in FLAIR or T1w"] * any(f.kind == "lesions" for f in like)
            missing = f"no {kind} file, {', '.join([NAMED[kind], *asked[kind], *other])}"
            what = f"{len(fit)} {kind} files fit: " if fit else missing + (", but there is " if like else "")
            lines.append(f"scan {name}: {what}{paths}")
    if rest := names[SHOWN:]:
        lines.append(f"and {len(rest)} more: {textwrap.shorten(' '.join(rest), 300, placeholder=' ...')}")
    several = offered and any(fit for texts in problems.values() for _, fit in texts)
    lines += [
        'choose by parts of their paths, such as SET="choose=acq-3D,derivatives/lesions,desc-rater1", or'
    ] * several
    lines += ["rename the files, or list them in a scans table (data/README.md)" + _not_installed(folder)]
    if any(kind == "lesions" and not fit for texts in problems.values() for kind, fit in texts):
        lines += ["to explain scans without annotation beside such files, list FLAIR and T1w alone in a scans table"]
    return "\n".join(lines)


def _like(files, scan, kind):
    """Files of a scan that may be meant for a kind, by their names; a mask of the brain or the face is none of lesions."""
    like = re.compile(f"(?i)({LIKE[kind]})[^/]*$")
    found = [file for file in files if file.scan == scan and like.search(file.path)]
    return [file for file in found if kind != "lesions" or not OTHER_MASKS.search(file.path.rpartition("/")[2])]


def _not_installed(folder):
    """A hint for a DataLad data set, whose parts look empty until they are installed."""
    return f"; install its parts: datalad get -n -r {folder}" if (folder / ".gitmodules").exists() else ""
