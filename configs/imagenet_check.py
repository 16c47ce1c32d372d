r"""Checks whether ImageNet weights of Inception-ResNet-v2 reach their published accuracy.

    python launch.py --config=configs/imagenet_check.py --config.weights=FILE \
        --config.images=IMAGENET_VALIDATION --workdir=WORK/imagenet_check

Classifies pictures of ImageNet with the size `full` and compares the top-1 accuracy with
`min_top1`, somewhat below the published accuracy of 80.3 %. `weights` is a file from Keras (.h5,
.weights.h5, .keras) or timm (.safetensors) with its head of 1,000 classes: Keras's
inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5, timm's inception_resnet_v2.tf_in1k.
The file that --config.init=imagenet reads has no head ("notop"). To check that file, take the head
from one of the files above: --config.weights=NOTOP.h5 --config.head=FILE.h5.

`images` is a folder of validation pictures, at least 100: in folders named by synset
(n01440764/x.JPEG), files whose names begin with a synset, or ILSVRC2012_val_00000001.JPEG and so
on. The weights pass if the upper limit of the accuracy's 95 % interval is at least `min_top1`.
Weights that are assigned to the wrong layers have about chance accuracy, 0.1 %.

Exit code 0: the weights pass. 1: they do not. 2: the check could not be done, and one line says
why. The results are in answer.json in the workdir.

Cost: 2,000 pictures at 299 pixels, some ten minutes on 2 CPU cores.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `imagenet_check`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "imagenet_check"

    config.weights = ""  # a weight file, or "imagenet": the one that --config.init=imagenet reads
    config.head = ""  # a weight file that contains the head; "": the file `weights`
    config.images = ""  # a folder of ImageNet's validation pictures

    config.min_top1 = 0.79  # top-1 accuracy that the upper limit of the 95 % interval must reach
    config.most = 2000  # maximum number of pictures, 100 or more, evenly spaced; 0: all
    config.batch = 32  # pictures that are classified together
    return config.lock()
