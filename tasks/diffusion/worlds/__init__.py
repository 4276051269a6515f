"""The drawn worlds. `REVISION` names the drawings: it changes with them, so that records of others keep apart."""

REVISION = "drawings of 64 pixels"
