"""Which split a file of many images is, by its name."""

import re
from pathlib import PurePosixPath

from visionyard.data.formats.reading import split_of_folder, split_of_path
from visionyard.data.items import Split

# MNIST's name of its ten thousand test images.
_T10K = "t10k"


def split_of_file(path: PurePosixPath) -> Split | None:
    """Return the split that a word of a file's name stands for, else one of its folders: `train_labels.csv`."""
    words = re.split(r"[-_. ]", path.name.lower())
    of_words = ("test" if word == _T10K else split_of_folder(word) for word in words)
    return next((split for split in of_words if split is not None), None) or split_of_path(path)
