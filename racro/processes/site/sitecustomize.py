"""Read by every Python process of an engine as it starts: the folder is on its path. See racro/torchvision_ops."""

import racro.models.torchvision_ops

racro.models.torchvision_ops.install()
