"""What users write, checked: type annotations as a schema, YAML, near misses of names."""

from evenseg.schema.annotations import accepts_bool, check, describe, fault, nearest, show

__all__ = ["accepts_bool", "check", "describe", "fault", "nearest", "show"]
