"""What the sanity checks of a run found (notebooks 7 and 8), in sentences from its tables."""


def counted(n, noun):
    """Number and noun: 1 lesion, 2 lesions."""
    return f"{n:.0f} {noun}{'' if n == 1 else 's'}"


def checks(read, copies, folder):
    """A paragraph of Markdown: how well maps predict the change of the score, and how exact so many copies make them.

    read: name of a table -> table.  copies: name of a table -> noisy copies of a map in the notebook that wrote it.
    folder: of the tables, as seen from the document. A sentence without a lesion is left out.
    """
    infidelity, error, n = read("07_infidelity"), read("08_convergence"), copies("04_saliency")
    means = infidelity[(infidelity["scan"] == "all") & (infidelity["of"] == "relative")].set_index("map")
    error = 100 * error.loc[(error["copies"] == n) & (error["method"] == "SmoothGrad max"), "standard_error"]
    said = []
    if len(means):
        texts = means["value"].map("{:.2f}".format)
        texts += [
            f" ({low:.2f} to {high:.2f})" if low == low else "" for low, high in means[["low", "high"]].to_numpy()
        ]
        counts = f"{counted(means['lesions'].max(), 'lesion')}, {counted(means['patients'].max(), 'patient')}"
        said.append(
            "The share of the change of the score under noise that a map at its best scale does not predict "
            f"([infidelity]({folder}07_infidelity.csv), 1 for a map of zeros) is {texts['SmoothGrad']} for SmoothGrad "
            f"of the {copies('07_infidelity')} noisy copies of notebook 7, {texts['lesion mask']} for the bare lesion "
            f"mask and {texts['shuffled']} for the SmoothGrad map with its values in random places ({counts})."
        )
    if len(error):
        said.append(
            f"With the {n} noisy copies of notebook 4 the [standard error]({folder}08_convergence.csv) of a "
            f"signed-maximum map, in the voxel where it is largest, is {error.min():.0f} to {error.max():.0f} % of the "
            f"map's largest magnitude ({counted(len(error), 'lesion')})."
        )
    return " ".join(["**Sanity checks.**", *said]) if said else ""
