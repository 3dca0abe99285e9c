"""One heartbeat for each proxy instance, and which revision of the Cloud each has applied."""
