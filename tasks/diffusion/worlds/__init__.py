"""The drawn worlds. `REVISION` names the drawings: it changes with them, so that records of others keep apart."""

REVISION = "drawings-64"
