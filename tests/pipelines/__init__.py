"""Do whole runs work? Real trainings, evaluations and sweeps with tiny inputs."""
