"""What is explained of a voxel: the logit of the lesion class, or another score of its two logits."""


def class_logit(logits):
    """Lesion-class logit, as in the paper: (B, 2, n) -> (B, n)."""
    return logits[:, 1]


def logit_difference(logits):
    """Lesion minus background logit: (B, 2, n) -> (B, n)."""
    return logits[:, 1] - logits[:, 0]


def probability(logits):
    """Lesion probability: (B, 2, n) -> (B, n)."""
    return logits.softmax(1)[:, 1]


SCORES = {"logit": class_logit, "difference": logit_difference}  # those in logits, as the figures say
