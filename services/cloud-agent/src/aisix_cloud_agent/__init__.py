"""The managed-mode agent: the only holder of the Cloud link's credential (design 9). Its function is not built yet."""
