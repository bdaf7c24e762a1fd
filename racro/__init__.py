"""RACRO: caption-reward optimisation (arXiv 2506.04559) as a library.

Start reading at `racro.schema`. Nothing here knows Prefect or MLflow; those live in `tasks` and `flows`.
"""

from racro import environment
from racro.models import torchvision_ops

environment.apply()
torchvision_ops.install()
