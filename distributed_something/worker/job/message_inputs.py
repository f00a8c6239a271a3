"""Builds a job's inputs from its message: fills the placeholders, and refuses addresses with an unintended meaning."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from distributed_something.worker.job.addresses import (
    BadAddress,
    check_web_address,
    has_credentials,
    hide_credentials,
    is_url,
    is_whole_bucket,
)
from distributed_something.worker.job.placeholders import fill_placeholders, find_blank_part, list_placeholders

_ADDRESS_KEYS = ("group", "inputs", "shared_inputs")  # keys of a message whose values may be addresses of inputs


def build_inputs(
    message: Mapping[str, Any], key: str, values: Mapping[str, object], *, allow_unsafe: bool
) -> list[str] | dict[str, str]:
    """Return the addresses in the message's key, or a mapping from addresses to paths if the key contains an object.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config. Raise BadAddress if an address, a path, or the key itself is
    invalid, and TemplateError if a placeholder cannot be filled.
    """
    try:
        inputs = _fill_inputs(message.get(key, []), key, values)
    except BadAddress as error:
        raise BadAddress(hide_credentials(str(error))) from None
    for text in inputs:
        if is_url(text) and not allow_unsafe:
            _check_web_address(text)
    return inputs


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


def _fill_inputs(inputs: object, key: str, values: Mapping[str, object]) -> list[str] | dict[str, str]:
    if isinstance(inputs, list):
        if not all(isinstance(text, str) and text for text in inputs):
            raise BadAddress(f"`{key}` is {reprlib.repr(inputs)}, not a list of non-empty strings")
        return [address for text in inputs for address in _expand_input(text, values)]
    if not isinstance(inputs, dict) or not all(
        isinstance(part, str) and part for pair in inputs.items() for part in pair
    ):
        problem = f"`{key}` is {reprlib.repr(inputs)}"
        raise BadAddress(problem + ', not a list of strings or an object such as {"images/a.png": "a.png"}')
    return {_fill_input(text, values): _fill_path(path, values) for text, path in inputs.items()}


def _expand_input(text: str, values: Mapping[str, object]) -> list[str]:
    """Return the addresses that an input stands for: several if it is a placeholder for a list of strings, else one."""
    addresses = values.get(text[1:-1]) if list_placeholders(text) == {text[1:-1]} else None
    if not isinstance(addresses, list):
        return [_fill_input(text, values)]
    if not all(isinstance(address, str) and address.strip() for address in addresses):
        raise BadAddress(f"the input {text!r} is {reprlib.repr(addresses)}, not a list of addresses without blank ones")
    return [_check_filled_input(text, address) for address in addresses]


def _fill_input(text: str, values: Mapping[str, object]) -> str:
    """Return the address of an input. Raise BadAddress if a blank value would make it the address of more than that."""
    if part := find_blank_part(text, values):
        raise BadAddress(f"the input {text!r} has no address: {part} is blank")
    return _check_filled_input(text, fill_placeholders(text, values))


def _check_filled_input(template: str, address: str) -> str:
    if template != address and is_whole_bucket(address):
        problem = "a placeholder cannot stand for an entire bucket; write the address itself in `inputs`"
        raise BadAddress(f"the input {template!r} is {address!r}: {problem}")
    return address


def _fill_path(path: str, values: Mapping[str, object]) -> str:
    if part := find_blank_part(path, values):
        raise BadAddress(f"the path {path!r} in `inputs` is incomplete: {part} is blank")
    return fill_placeholders(path, values)
