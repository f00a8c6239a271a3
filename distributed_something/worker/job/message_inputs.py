"""Builds a job's inputs from its message: fills the placeholders, and refuses addresses with an unintended meaning.

The templates are parsed once for all jobs of a Job file.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from distributed_something.worker.job.addresses import BadAddress, check_web_address, is_url, is_whole_bucket
from distributed_something.worker.job.placeholders import Template, ValueTexts, parse_template

InputBuilder = Callable[[ValueTexts], list[str] | dict[str, str]]


def parse_inputs(message: Mapping[str, Any], key: str, *, allow_unsafe: bool) -> InputBuilder:
    """Return a function that builds the inputs in the message's key: addresses, or a mapping from addresses to paths.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config. Both functions raise BadAddress if an address, a path, or the
    key itself is invalid, and TemplateError if a placeholder cannot be filled.
    """
    fill = _parse_templates(message.get(key, []), key)

    def build_inputs(texts: ValueTexts) -> list[str] | dict[str, str]:
        inputs = fill(texts)
        for text in inputs:
            if not allow_unsafe and is_url(text):
                _check_web_address(text)
        return inputs

    return build_inputs


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
    address = template.fill(texts)
    if part := template.find_blank_part(texts):
        raise BadAddress(f"the input {template.text!r} has no address: {part} is blank")
    return _check_filled_input(template, address)


def _check_filled_input(template: Template, address: str) -> str:
    if is_whole_bucket(address) and template.text != address:
        problem = "a placeholder cannot stand for an entire bucket; write the address itself in `inputs`"
        raise BadAddress(f"the input {template.text!r} is {address!r}: {problem}")
    return address


def _fill_path(template: Template, texts: ValueTexts) -> str:
    path = template.fill(texts)
    if part := template.find_blank_part(texts):
        raise BadAddress(f"the path {template.text!r} in `inputs` is incomplete: {part} is blank")
    return path
