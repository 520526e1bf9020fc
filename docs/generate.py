"""Generate the pages of docs/reference that repeat what a file of the product says.

    python docs/generate.py [--check]     with --check only say whether a page differs

- `api.md` from the resource definition (manifests/crd.yaml): every field with its type, default, limits and
  description, and every rule of the API server. Fields inside a pod template are left to `template.md`.
- `chart-values.md` from the chart's values.yaml (defaults, and the comment above each value) and values.schema.json
  (what is admitted).

Guarantees that each page depends on these files alone. Does not judge the descriptions. Reads no clock, no network.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
REFERENCE: Final = ROOT / "docs" / "reference"
CRD: Final = ROOT / "manifests" / "crd.yaml"
CHART: Final = ROOT / "charts" / "understudy"
ELSEWHERE: Final = {"spec.template": "[Its fields](template.md) have a page of their own."}
"""Objects whose fields are not listed, and where they are."""
LIMITS: Final = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches `{}`",
}


def api_page(crd: Mapping[str, Any]) -> str:
    """Render the page of the resource definition."""
    spec = crd["spec"]
    version = spec["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    names = spec["names"]
    lines = [
        f"# API reference: {names['kind']}",
        "",
        *_generated("manifests/crd.yaml"),
        f"`apiVersion: {spec['group']}/{version['name']}`, `kind: {names['kind']}`, namespaced, short name",
        f"`{names['shortNames'][0]}`.",
        "",
        *_wrapped(schema["description"]),
        "",
        "`kubectl explain trainingjob.spec` prints the same descriptions.",
        "`kubectl get trainingjobs` prints these columns:",
        "",
        "| column | field | meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| {column['name']} | `{column['jsonPath'][1:]}` | {_cell(column.get('description', 'Age of the object'))} |"
        for column in version["additionalPrinterColumns"]
    ]
    lines += ["", *_rules(schema)]
    for part in ("spec", "status"):
        lines += _object(part, schema["properties"][part])
    return "\n".join(lines).rstrip() + "\n"


def _object(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Render one object: its description, its fields, its rules, then the objects inside."""
    yield f"## `{path}`"
    yield ""
    yield from _wrapped(schema.get("description", ""))
    yield ""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    required = schema.get("required", [])
    inside = []
    for name, field in schema["properties"].items():
        where = f"{path}.{name}"
        listed = where not in ELSEWHERE
        nested = _nested(field) if listed else None
        if nested is not None:
            inside.append((where + ("[]" if field["type"] == "array" else ""), nested))
        default = "required" if name in required else _default(field)
        said = [_cell(field.get("description", "")), _limits(field), ELSEWHERE.get(where, "")]
        meaning = " ".join(filter(None, said))
        yield f"| `{name}` | {_type(field)} | {default} | {meaning} |"
    yield ""
    yield from _rules(schema, *(field for _, field in schema["properties"].items() if _nested(field) is None))
    for where, nested in inside:
        yield from _object(where, nested)


def _nested(field: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Give the object whose fields a field holds, itself or as items of a list; None: it has no declared fields."""
    found: Mapping[str, Any] = field.get("items", {}) if field["type"] == "array" else field
    return found if found.get("properties") else None


def _rules(*schemas: Mapping[str, Any]) -> Iterator[str]:
    messages = [
        " ".join(rule["message"].split()) for schema in schemas for rule in schema.get("x-kubernetes-validations", ())
    ]
    if not messages:
        return
    yield "The API server refuses an object that breaks one of these rules, with this message:"
    yield ""
    for message in messages:
        yield from _wrapped(_plain(message), "- ")
    yield ""


def _type(field: Mapping[str, Any]) -> str:
    if field["type"] == "array":
        return f"list of {field['items']['type']}"
    if field.get("format") == "date-time":
        return "time"
    return str(field["type"])


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return ""
    return f"`{_value(field['default'])}`"


def _value(value: Any) -> str:
    return str(value) if isinstance(value, str) and value else json.dumps(value)


def _limits(field: Mapping[str, Any]) -> str:
    said = [f"One of {', '.join(f'`{_value(value)}`' for value in field['enum'])}"] if "enum" in field else []
    limits = [text.format(str(field[key]).replace("|", "\\|")) for key, text in LIMITS.items() if key in field]
    limits = ["not empty" if limit.startswith("at least 1 ") else limit for limit in limits]
    if limits:
        said.append(", ".join(limits)[0].upper() + ", ".join(limits)[1:])
    return " ".join(f"{sentence}." for sentence in said)


def values_page(values: str, schema: Mapping[str, Any]) -> str:
    """Render the page of the chart's values."""
    lines = [
        "# Values of the chart `understudy`",
        "",
        *_generated("charts/understudy/values.yaml"),
        "`helm upgrade --install` takes them by `--set NAME=VALUE` or `--values FILE`. helm refuses a value that is",
        "not in this list. [The chart's README](../../charts/understudy/README.md) says how to install, upgrade and",
        "uninstall.",
        "",
        "| value | default | admitted | meaning |",
        "|---|---|---|---|",
    ]
    for name, comment in commented(values):
        found: Any = yaml.safe_load(values)
        kind: Mapping[str, Any] = schema
        for part in name.split("."):
            found = found[part]
            kind = _resolved(kind["properties"][part], schema)
        admitted = _limits(kind).rstrip(".") if "enum" in kind or "minimum" in kind else kind["type"]
        lines.append(f"| `{name}` | `{_cell(_flow(found))}` | {admitted} | {_cell(comment)} |")
    return "\n".join(lines) + "\n"


def _resolved(kind: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in kind:
        return kind
    found: Mapping[str, Any] = schema["definitions"][kind["$ref"].rsplit("/", 1)[1]]
    return found


def _flow(value: Any) -> str:
    """Write a value on one line, as YAML takes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return _value(value)


def commented(values: str) -> list[tuple[str, str]]:
    """List the values that have a comment right above them: dotted name and comment."""
    found: list[tuple[str, str]] = []
    comment: list[str] = []
    parents: list[str] = []
    for line in values.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        key = re.match(r"^( *)([A-Za-z]+):", line)
        if key:
            parents = [*parents[: len(key[1]) // 2], key[2]]
            if comment:
                found.append((".".join(parents), " ".join(comment)))
        comment = []
    return found


def _generated(source: str) -> list[str]:
    return [f"<!-- Generated by `make docs` from {source}: change that file, not this one. -->", ""]


def _plain(text: str) -> str:
    """Keep Markdown from reading `*`, `<` and `|` of a description as its own."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _cell(text: str) -> str:
    return _plain(" ".join(text.split()))


def _wrapped(text: str, first: str = "") -> Iterator[str]:
    """Break a paragraph into lines of at most 118 characters; `first` begins a list item."""
    line = first
    for word in text.split():
        if len(line) + len(word) >= 118:
            yield line.rstrip()
            line = " " * len(first)
        line += f"{word} "
    if line.strip():
        yield line.rstrip()


def pages() -> dict[Path, str]:
    """Render every generated page: path → text."""
    crd = yaml.safe_load(CRD.read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    return {
        REFERENCE / "api.md": api_page(crd),
        REFERENCE / "chart-values.md": values_page((CHART / "values.yaml").read_text(), schema),
    }


def main() -> int:
    """Write the pages, or with `--check` compare them; 1 when `--check` finds that one differs."""
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"generate.py: differs from its source: {names}; run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
    print(f"generate.py: wrote {names}" if stale else "generate.py: docs/reference is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
