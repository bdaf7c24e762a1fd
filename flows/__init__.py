"""In which order do stages run? One Prefect flow per file."""
