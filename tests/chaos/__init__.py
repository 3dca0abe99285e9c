"""`make chaos`: kill -9 of every part of a managed gateway at random moments, under load; what must hold at the end."""
