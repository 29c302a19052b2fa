"""Which tool made what is named as weights: found from what lies there, and loaded by that tool's own rules."""

from lib.network.published import authors, bundle, functions, lst_ai, nnunet
from lib.provenance import digest, names_function, weight_files

TOOLS = (
    (nnunet.is_nnunet, nnunet.load_nnunet),
    (lst_ai.is_lst, lst_ai.load_lst),
    (bundle.is_bundle, bundle.load_bundle),
    (authors.is_authors, authors.load_authors),
)


def load_published(path):
    """Network and description (as the JSON beside weights) of what a tool published; None if it is of none.

    path: an archive or file of the authors' checkpoints, a nnU-Net v2 results folder, a folder of LST-AI's networks, a
    MONAI bundle, or <folder>/<package.module>:<function>.  The network is what the tool builds, its weights loaded and
    yet to be adapted.  Raises ValueError that names the file and what to do if it is not complete or asks for what is
    not done here.
    """
    if names_function(path):
        return functions.load_function(path)
    for is_of_tool, load in TOOLS:
        if is_of_tool(path):
            network, description = load(path)
            return network, description | {"digest": digest(*weight_files(path))}
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, but of no tool that is known: a nnU-Net v2 results folder has plans.json and "
            f"fold_0/, LST-AI's has {lst_ai.FILES[0]}, a MONAI bundle has configs/inference.json"
        )
    return None
