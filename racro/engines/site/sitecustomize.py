"""Read by every Python process of an engine at its start (the folder is on its PYTHONPATH): see racro/torchvision_ops."""

import racro.torchvision_ops

racro.torchvision_ops.install()
