"""What does everything else rest on? Prompts, identity, errors; the method itself is in the folders below.

RACRO (caption-reward optimisation, arXiv 2506.04559) as a library. Start reading at `racro.schema`. Nothing here knows
Prefect or MLflow; `tasks` and `flows` do.
"""

from racro import environment
from racro.models import torchvision_ops

environment.apply()
torchvision_ops.install()
