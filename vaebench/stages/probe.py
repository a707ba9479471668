"""Stage ``probe``: attribute linear probes on latents."""
