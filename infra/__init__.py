"""On which machines does it run? Container image, compose file, Kubernetes manifests and work pool."""
