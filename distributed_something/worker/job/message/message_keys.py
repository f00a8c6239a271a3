"""Reads the keys of a message: its inputs, and keys with a single value.

In inputs, placeholders are filled, and addresses with an unintended meaning are refused. Their templates are parsed
once for all jobs of a Job file.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from distributed_something.worker.job.addresses import (
    BadAddress,
    check_endpoint,
    check_web_address,
    has_credentials,
    hide_credentials,
    is_url,
    is_whole_bucket,
)
from distributed_something.worker.job.placeholders import Template, ValueTexts, parse_template

MAX_JOB_SECONDS = 11 * 3600  # SQS ends the lease of a received message after 12 hours
InputBuilder = Callable[[ValueTexts], list[str] | dict[str, str]]

_ADDRESS_KEYS = (
    "group",
    "inputs",
    "shared_inputs",
    "input_endpoint",
    "output_endpoint",
)  # keys of a message whose values may be addresses of inputs


def parse_inputs(message: Mapping[str, Any], key: str, *, allow_unsafe: bool) -> InputBuilder:
    """Return a function that builds the inputs in the message's key: addresses, or a mapping from addresses to paths.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config. Both functions raise BadAddress if an address, a path, or the
    key itself is invalid, and TemplateError if a placeholder cannot be filled.
    """
    given = message.get(key, [])
    if given == []:
        return lambda _: []
    try:
        fill = _parse_templates(given, key)
    except BadAddress as error:
        raise BadAddress(hide_credentials(str(error))) from None

    def build_inputs(texts: ValueTexts) -> list[str] | dict[str, str]:
        try:
            inputs = fill(texts)
        except BadAddress as error:
            raise BadAddress(hide_credentials(str(error))) from None
        if not allow_unsafe:
            for text in inputs:
                if is_url(text):
                    _check_web_address(text)
        return inputs

    return build_inputs


def hide_message_credentials(message: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the message without the user names and passwords in its addresses, which would become parts of
    IDs, records, and journals. The copy is equal to the message if there are none."""
    hidden = {key: _hide_credentials(value) for key, value in message.items() if key in _ADDRESS_KEYS}
    return type(message)({**message, **hidden})


def _hide_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return hide_credentials(value) if has_credentials(value) else value
    if isinstance(value, dict):
        return type(value)({_hide_credentials(key): _hide_credentials(part) for key, part in value.items()})
    return [_hide_credentials(part) for part in value] if isinstance(value, list) else value


def _check_web_address(text: str) -> None:
    try:
        check_web_address(text, allow_unsafe=False)
    except ValueError as error:
        raise BadAddress(str(error)) from None


def _parse_templates(inputs: object, key: str) -> InputBuilder:
    if isinstance(inputs, list):
        if not all(isinstance(text, str) and text for text in inputs):
            raise BadAddress(f"`{key}` is {reprlib.repr(inputs)}, not a list of non-empty strings")
        templates = [parse_template(text) for text in inputs]
        if any(map(_may_be_list, templates)):
            return lambda texts: [address for template in templates for address in _expand_input(template, texts)]
        return lambda texts: [_fill_input(template, texts) for template in templates]
    if not isinstance(inputs, dict) or not all(
        isinstance(part, str) and part for pair in inputs.items() for part in pair
    ):
        problem = f"`{key}` is {reprlib.repr(inputs)}"
        raise BadAddress(problem + ', not a list of strings or an object such as {"images/a.png": "a.png"}')
    pairs = [(parse_template(text), parse_template(path)) for text, path in inputs.items()]
    return lambda texts: {_fill_input(template, texts): _fill_path(path, texts) for template, path in pairs}


def _may_be_list(template: Template) -> bool:
    """Return whether the input is only one placeholder, which may stand for a list of addresses."""
    return template.names == {template.text[1:-1]}


def _expand_input(template: Template, texts: ValueTexts) -> list[str]:
    """Return the addresses that an input stands for: several if it is a placeholder for a list of strings, else one."""
    addresses = texts.values_by_name.get(template.text[1:-1]) if _may_be_list(template) else None
    if not isinstance(addresses, list):
        return [_fill_input(template, texts)]
    if not all(isinstance(address, str) and address.strip() for address in addresses):
        problem = f"is {reprlib.repr(addresses)}, not a list of addresses without blank ones"
        raise BadAddress(f"the input {template.text!r} {problem}")
    return [_check_filled_input(template, address) for address in addresses]


def _fill_input(template: Template, texts: ValueTexts) -> str:
    """Return the address of an input. Raise BadAddress if a blank value would make it the address of more than that."""
    if not template.names:
        return template.form
    address = template.fill(texts)
    if blank := template.describe_blank_parts(texts):
        raise BadAddress(f"the input {template.text!r} has no address: {blank}")
    return _check_filled_input(template, address)


def _check_filled_input(template: Template, address: str) -> str:
    if template.text != address and is_whole_bucket(address):
        problem = "a placeholder cannot stand for an entire bucket; write the address itself in `inputs`"
        raise BadAddress(f"the input {template.text!r} is {address!r}: {problem}")
    return address


def _fill_path(template: Template, texts: ValueTexts) -> str:
    path = template.fill(texts)
    if blank := template.describe_blank_parts(texts):
        raise BadAddress(f"the path {template.text!r} in `inputs` is incomplete: {blank}")
    return path


class BadValue(ValueError):
    """A value that is not valid. The error message contains the key and the value."""


def read_text(message: Mapping[str, Any], key: str, default: str) -> str:
    """Return the key's text, which must not be empty."""
    value = message.get(key, default)
    if not isinstance(value, str) or not value:
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not a non-empty string")
    return value


def read_text_list(message: Mapping[str, Any], key: str) -> list[str]:
    """Return the key's list of texts; an empty one if the key is missing."""
    value = message.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not a list of non-empty strings")
    return value


def read_boolean(message: Mapping[str, Any], key: str) -> bool:
    """Return the key's Boolean; False if the key is missing."""
    value = message.get(key, False)
    if not isinstance(value, bool):  # any other value would be guesswork about where results go and who pays
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not true or false")
    return value


def read_file_count(message: Mapping[str, Any], key: str) -> int:
    """Return the key's number of files; 0 if the key is missing."""
    value = message.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not a whole number of at least 0")
    return value


def read_timeout_seconds(message: Mapping[str, Any]) -> float:
    """Return the time limit in `timeout_minutes`, in seconds, or the maximum."""
    value = message.get("timeout_minutes", MAX_JOB_SECONDS / 60)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise BadValue(f"`timeout_minutes` is {reprlib.repr(value)}, not a number above 0")
    return min(value, MAX_JOB_SECONDS / 60) * 60.0


def read_endpoint(message: Mapping[str, Any], key: str, *, allow_unsafe: bool) -> str:
    """Return the address of the S3 server in the key, or "" for AWS, if the key is missing, empty, or null.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config.
    """
    value = message.get(key) or ""
    try:
        if not isinstance(value, str):
            raise BadAddress(f"{reprlib.repr(value)} is not the address of an S3 server")
        if value:
            check_endpoint(value, allow_unsafe=allow_unsafe)
    except BadAddress as error:
        raise BadValue(f"`{key}`: {error}") from None
    return value
