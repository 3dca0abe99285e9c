"""What `make run` starts on a developer's machine. Nothing here is part of a deployment."""
