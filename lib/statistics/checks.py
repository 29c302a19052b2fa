"""What the sanity checks of a run found (notebooks 7 and 8), in a sentence from its tables."""


def checks(read, n_samples, folder):
    """A paragraph of Markdown: how well maps predict the change of the score, and how exact n_samples copies make them.

    read: name of a table -> table.  n_samples: noisy copies of the maps of notebook 4.  folder: of the tables, as seen
    from the document. Empty where no lesion was checked.
    """
    infidelity, error = read("07_infidelity"), read("08_convergence")
    means = infidelity[(infidelity["scan"] == "all") & (infidelity["of"] == "relative")].set_index("map")
    error = 100 * error.loc[(error["copies"] == n_samples) & (error["method"] == "SmoothGrad max"), "standard_error"]
    if means.empty or error.empty:
        return ""
    texts = {row.Index: f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})" for row in means.itertuples()}
    counts = f"{means['lesions'].max():.0f} lesions, {means['patients'].max():.0f} patients"
    return (
        f"**Sanity checks.** The share of the change of the score under noise that a map does not predict "
        f"([infidelity]({folder}07_infidelity.csv), 1 for a map of zeros) is {texts['SmoothGrad']} for SmoothGrad, "
        f"{texts['lesion mask']} for the bare lesion mask and {texts['shuffled']} for the SmoothGrad map with its values in "
        f"random places ({counts}). With the {n_samples} noisy copies of notebook 4 the [standard error]"
        f"({folder}08_convergence.csv) of a signed-maximum map is {error.min():.0f} to {error.max():.0f} % of its largest "
        f"value ({len(error)} lesions)."
    )
