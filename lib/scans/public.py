"""Public data sets by name (DATA=mslesseg:/data/MSLesSeg): where their files lie, whose masks are taken, their terms."""

import glob
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

KINDS = ("flair", "t1w", "lesions")
WITHHELD = re.compile("(?i)test")  # parts whose masks challenges kept back: a scan there may have none
SHOWN = 10  # scans with a problem that are listed; the rest is counted

# What is there in place of the files wanted, and why that cannot be used.
REFUSED = {
    r"flair_time0\d": "masks of MSSEG-2 (2021) hold new lesions alone, all others would count as healthy",
    r"study\d_": "masks of longitudinal/ hold what changed between two scans alone; give cross_sectional/MNI",
    r"(?i)([/_]raw|/orig|/coregistered)[/_]": "what is there is not registered or not skull-stripped: list FLAIR and T1w"
    " in a table and make prepare first",
}


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    layouts: (folder of a scan, and below it FLAIR, T1w, lesion mask). {name} stands for one part of a path, the same at
    each place, {name:a|b} for one of these, * for any. What `session...` stand for is the session, all others together
    are the subject.  masks: whose.  raw: skull on, for `make prepare` alone.  label: of lesions, in masks with others.
    """

    layouts: tuple
    masks: str
    licence: str
    cite: str
    get: str
    raw: bool = False
    label: int | None = None


# Patients are whole folders of one tree: the layout is that of the repository (commit 6570490), tried on 07 and 19.
LJUBLJANA = DataSet(
    layouts=(
        (
            "MNI/{patient}",
            "FLAIR_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz",
            "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz",
            "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI.nii.gz",
        ),
    ),
    masks="consensus of three raters",
    licence="CC BY",
    cite="Lesjak et al., Neuroinformatics 2018;16:51-63, doi 10.1007/s12021-017-9348-7",
    get="https://github.com/muschellij2/open_ms_data (git clone, or make fetch DATASET=ljubljana)",
)

# train/ tried on P18; test/, without session folders, is as three public converters read it.
MSLESSEG = DataSet(
    layouts=(
        ("train/{subject}/{session}", *(f"{{subject}}_{{session}}_{kind}.nii.gz" for kind in ("FLAIR", "T1", "MASK"))),
        ("test/{subject}", *(f"{{subject}}_{kind}.nii.gz" for kind in ("FLAIR", "T1", "MASK"))),
    ),
    masks="one mask a scan, validated by experts",
    licence="CC BY 4.0",
    cite="Guarnera et al., Scientific Data 2025;12:920, doi 10.1038/s41597-025-05250-y",
    get="https://doi.org/10.6084/m9.figshare.27919209 (MSLesSeg Dataset.zip)",
)

# As torch_em (isbi_mslesion) and other public loaders read it; not tried on a file. The two raters made no consensus.
ISBI2015 = DataSet(
    layouts=(
        (
            r"{subject:training\d+|test\d+}",
            *(f"preprocessed/{{subject}}_{{session}}_{kind}_pp.nii" for kind in ("flair", "mprage")),
            "masks/{subject}_{session}_mask1.nii",
        ),
    ),
    masks="the first of two raters",
    licence="research and education alone (registration)",
    cite="Carass et al., NeuroImage 2017;148:77-102, doi 10.1016/j.neuroimage.2016.12.064",
    get="https://smart-stats-tools.org/lesion-challenge-2015",
)

# As several public loaders of the archives of Shanoir read it; not tried on a file, nor are the terms confirmed.
MSSEG2016 = DataSet(
    layouts=(
        (
            "{part:Training|Testing}/Center_{centre}/Patient_{patient}",
            "Preprocessed_Data/FLAIR_preprocessed.nii.gz",
            "Preprocessed_Data/T1_preprocessed.nii.gz",
            "Masks/Consensus.nii.gz",
        ),
    ),
    masks="consensus of seven experts",
    licence="as agreed at registration",
    cite="Commowick et al., NeuroImage 2021;244:118589, doi 10.1016/j.neuroimage.2021.118589",
    get="https://shanoir.irisa.fr (study MSSEG 2016; MSSEG-Training.zip, MSSEG-Testing.zip)",
)

# As public loaders of both parts read it; not tried on a file. The 21 scans of best/ are those of the 5 patients that
# train ISBI 2015, and nothing says which are of one: they are one subject, so that no patient is on two sides of a split.
SHIFTS = DataSet(
    layouts=tuple(
        (scan, *(f"{kind.lower()}/{number}_{kind}_isovox.nii.gz" for kind in ("FLAIR", "T1", "gt")))
        for scan, number in (
            ("{cohort:msseg|ljubljana}/{part}", "{number}"),
            ("{cohort:best}/{session_part}", "{session_number}"),
        )
    ),
    masks="consensus of several raters, one mask in best/",
    licence="CC BY-NC-SA 4.0, part 1 also OFSEP's agreement",
    cite="Malinin et al., Shifts 2.0, 2022, arXiv:2206.15407; and the data sets within (MSSEG 2016, ISBI 2015, Ljubljana)",
    get="https://zenodo.org/records/7051692 (part 2), https://zenodo.org/records/7051658 (part 1, on request)",
)

# As torch_em (wmh) and other public loaders of the release of 2022 read it; not tried on a file. Label 2 is other
# pathology, no lesion (Kuijf et al. 2019). pre/ is bias-corrected with the skull on: the native images of orig/ are taken.
WMH2017 = DataSet(
    layouts=tuple(
        (scan, "orig/FLAIR.nii.gz", "orig/3DT1.nii.gz", "wmh.nii.gz")
        for scan in ("*/{site:Utrecht|Singapore}/{number}", "*/{site:Amsterdam}/*/{number}")
    ),
    masks="the first observer, reviewed by a second; label 1 alone",
    licence="CC BY-NC 4.0",
    cite="Kuijf et al., IEEE Transactions on Medical Imaging 2019;38:2556-2568, doi 10.1109/TMI.2019.2905770",
    get="https://doi.org/10.34894/AECRSD",
    raw=True,
    label=1,
)

_SECOND = tuple((*layout[:3], layout[3].replace("mask1", "mask2")) for layout in ISBI2015.layouts)
PUBLIC = {
    "ljubljana": LJUBLJANA,
    "mslesseg": MSLESSEG,
    "isbi2015": ISBI2015,
    "isbi2015-rater2": replace(ISBI2015, layouts=_SECOND, masks="the second of two raters"),
    "msseg2016": MSSEG2016,
    "shifts": SHIFTS,
    "wmh2017": WMH2017,
}


def split_source(source):
    """Name of a public data set ("" if none is named) and path of a source such as mslesseg:/data or /data/bids.

    A folder joined before the name is the one that a relative path after it counts from; ~ is a home.
    """
    match = re.fullmatch(rf"(.*/)?({'|'.join(PUBLIC)}):(.+)", str(source))
    before, name, path = match.groups() if match else ("", "", source)
    return name, Path(before or "") / Path(path).expanduser()


def public_scans(name, folder, raw=False):
    """Rows {subject, session, flair, t1w, lesions, label} of a public data set, or of what there is of it in a folder.

    lesions: "" in a test part without masks.  label: of lesions in the mask, "" if it is binary.  raw: for `make prepare`.
    Raises ValueError with the folder and what was expected there if nothing or what cannot be used is there, and with
    the scans that lack a file or have it twice.
    """
    data, folder = PUBLIC[name], Path(folder).absolute()
    wanted = " or ".join(f"{scan}/{flair}" for scan, flair, *_ in data.layouts)
    expected = f"{name} expects {wanted} there; to be had from {data.get}"
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: {expected}")
    if data.raw and not raw:
        raise ValueError(f"{name} has skulls on and other grids: first make prepare DATA={name}:{folder}")
    files = sorted(glob.iglob(f"{glob.escape(str(folder))}/**/*.nii*", recursive=True))
    found, withheld = defaultdict(lambda: defaultdict(list)), set()
    for scan, *names in data.layouts:
        for kind, file in zip(KINDS, names, strict=True):
            for match in filter(None, map(_pattern(f"{scan}/{file}").search, files)):
                key = _joined(match, of_session=False), _joined(match, of_session=True)
                found[key][kind].append(match.string)
                withheld |= {key} if WITHHELD.match(match[0]) else set()
    if not found:
        reasons = [
            why for what, why in REFUSED.items() if not data.raw and any(re.search(what, file) for file in files)
        ]
        raise ValueError(f"{folder}: no scan found; {(reasons or [expected])[0]}")
    problems = []
    for (subject, session), paths in sorted(found.items()):
        optional = ["lesions"] * ((subject, session) in withheld)
        wrong = [kind for kind in KINDS if len(paths[kind]) > 1 or not paths[kind] and kind not in optional]
        if told := ", ".join(" and ".join(paths[kind]) or f"no {kind} file" for kind in wrong):
            problems.append(f"scan sub-{subject}{session and '_ses-' + session}: {told}")
    if problems:
        rest = [f"and {len(problems) - SHOWN} more"] * (len(problems) > SHOWN)
        raise ValueError("\n".join([f"{folder}: not one file of each kind; {expected}", *problems[:SHOWN], *rest]))
    return [
        {"subject": subject, "session": session, "label": data.label or ""}
        | {kind: "".join(paths[kind]) for kind in KINDS}
        for (subject, session), paths in sorted(found.items())
    ]


def _pattern(path):
    """Regular expression of the end of a path of a layout; .nii and .nii.gz alike."""
    known = set()

    def group(token):
        name, values = token.groups(default="[^/]+")
        if name in known:
            return f"(?P={name})"
        known.add(name)
        return f"(?P<{name}>{values})"

    text = path.removesuffix(".gz").replace(".", r"\.").replace("*", "[^/]+")
    return re.compile("(?<=/)" + re.sub(r"{(\w+)(?::([^}]+))?}", group, text) + r"(?:\.gz)?$")


def _joined(match, of_session):
    """Letters and digits of what the names of the session stand for, or all others, those of the subject."""
    values = [value for name, value in match.groupdict().items() if name.startswith("session") == of_session]
    return re.sub(r"[\W_]", "", "".join(values))
