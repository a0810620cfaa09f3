"""The kinds of values that a configuration holds, and the mapping of keys that all sections are."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    WithJsonSchema,
    model_validator,
)


def _no_bool(value: Any) -> Any:
    """Refuse true and false where a number is wanted: Python counts them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def _dataset_entry(value: Any) -> Any:
    """Accept a data set's name, or a mapping with its TYPE and arguments."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict) and isinstance(value.get("TYPE"), str) and value["TYPE"]:
        return value
    raise ValueError("a data set is a name or a mapping with a TYPE")


def _typed_part(value: Any) -> Any:
    """Accept a mapping with a TYPE and arguments."""
    if isinstance(value, dict) and isinstance(value.get("TYPE"), str) and value["TYPE"]:
        return value
    raise ValueError("a mapping with a TYPE is wanted")


def _rule_part(value: Any) -> Any:
    """Accept a rule's name, which stands for {TYPE: name}, or a mapping with its TYPE and arguments."""
    if isinstance(value, str) and value:
        return {"TYPE": value}
    if isinstance(value, dict) and isinstance(value.get("TYPE"), str) and value["TYPE"]:
        return {key: argument for key, argument in value.items() if argument is not None}
    raise ValueError("a rule is a name or a mapping with a TYPE")


NotBool = BeforeValidator(_no_bool)  # a range stands inside of it, or the JSON schema loses it
Number = Annotated[float, Field(allow_inf_nan=False), NotBool]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), NotBool]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), NotBool]
Factor = Annotated[float, Field(gt=0, le=1), NotBool]
Share = Annotated[float, Field(ge=0, le=1), NotBool]
Rate = Annotated[float, Field(ge=0, lt=1), NotBool]
Count = Annotated[int, Field(ge=1), NotBool]
CountOrZero = Annotated[int, Field(ge=0), NotBool]
Text = Annotated[StrictStr, Field(min_length=1)]
ThreeNumbers = Annotated[list[Number], Field(min_length=3, max_length=3)]
PrecisionName = Literal["fp32", "bf16", "fp16"]
TypedPart = Annotated[
    Any,
    BeforeValidator(_typed_part),
    WithJsonSchema(
        {
            "description": "{TYPE: <registered part>, <its arguments>}",
            "type": "object",
            "properties": {"TYPE": {"type": "string", "minLength": 1}},
            "required": ["TYPE"],
        }
    ),
]
NAME_OR_MAPPING: list[dict[str, Any]] = [
    {"type": "string", "minLength": 1},
    {
        "type": "object",
        "properties": {"TYPE": {"type": "string", "minLength": 1}},
        "required": ["TYPE"],
    },
]
DatasetEntry = Annotated[
    Any,
    BeforeValidator(_dataset_entry),
    WithJsonSchema(
        {
            "description": "a data set's name, or {TYPE: <registered data set>, <its arguments>}",
            "anyOf": NAME_OR_MAPPING,
        }
    ),
]
RulePart = Annotated[Any, BeforeValidator(_rule_part), WithJsonSchema({"anyOf": NAME_OR_MAPPING})]


class Section(BaseModel):
    """A mapping of the YAML. An empty section, or a key without a value, is as if it were not written."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
    keep_null: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if data is None:
            return {}
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None or key in cls.keep_null}
        return data
