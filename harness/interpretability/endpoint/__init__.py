"""A judge that is a language model behind an OpenAI-compatible endpoint."""
