"""What builds the images: the parts of deploy/Dockerfile that are Python."""
