"""What the proxy tells of itself: metrics, access log, usage events, token counts, and its row under the run root."""
