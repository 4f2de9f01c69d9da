"""One study from specification to champion: read run.py first."""
