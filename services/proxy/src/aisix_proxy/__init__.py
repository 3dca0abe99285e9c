"""The data plane: every model behind one OpenAI-compatible API."""
