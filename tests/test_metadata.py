"""A file with OData metadata, or with what people take for it: what is read, refused, written and told."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openapi_spec_validator import validate

from proxy.core.compare import Comparison, Difference, Finding
from proxy.metadata import (
    BYTES_AT_MOST,
    ELEMENTS_AT_MOST,
    STANDARD_INPUT,
    Imported,
    MetadataError,
    compare_metadata,
    import_metadata,
    render_json,
    render_text,
    save,
    summary,
    to_yaml,
)
from proxy.resources import load_catalog, shipped_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def shipped() -> list[Any]:
    return [document.content for document in shipped_documents()]


XML = """<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
  <edmx:DataServices>
    <Schema Namespace="Bar" xmlns="http://docs.oasis-open.org/odata/ns/edm">
      <EntityType Name="Machine">
        <Key><PropertyRef Name="id"/></Key>
        <Property Name="id" Type="Edm.String" Nullable="false"/>
        <Property Name="origin" Type="Bar.Origin"/>
      </EntityType>
      <EnumType Name="Origin"><Member Name="Portal"/><Member Name="Api"/></EnumType>
      <Action Name="Isolate" IsBound="true">
        <Parameter Name="it" Type="Bar.Machine"/>
        <Parameter Name="Comment" Type="Edm.String"/>
        <Parameter Name="isolationType" Type="Edm.Int32"/>
        <Parameter Name="Origin" Type="Bar.Origin" Nullable="false"/>
      </Action>
      <Action Name="Brew" IsBound="true">
        <Parameter Name="it" Type="Bar.Machine"/>
        <Parameter Name="Origin" Type="Bar.Origin" Nullable="false"/>
      </Action>
      <EntityContainer Name="Container">
        <EntitySet Name="Machines" EntityType="Bar.Machine"/>
      </EntityContainer>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"""

CATALOG: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/api/machines/{id}/isolate": {
            "post": {
                "operationId": "isolateMachine",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["Comment"],
                                "properties": {
                                    "Comment": {"type": "string"},
                                    "IsolationType": {"type": "string", "enum": ["Full"]},
                                },
                            }
                        }
                    }
                },
            }
        },
        "/api/machines": {"get": {"operationId": "listMachines"}},
    },
}

BILLION_LAUGHS = (
    '<?xml version="1.0"?>\n<!DOCTYPE l [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>\n<l>&i;</l>"
)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "metadata.xml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def imported(path: Path, **more: Any) -> Imported:
    return import_metadata(path, [CATALOG], **more)


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(MetadataError) as caught:
        imported(path, **more)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < len(str(path)) + 300
    return text.replace(str(path), "FILE")


def test_the_file_becomes_a_document_that_the_sidecar_loads(file: Callable[..., Path], tmp_path: Path) -> None:
    document = import_metadata(file(XML), shipped()).document
    output = tmp_path / "mine.yaml"
    output.write_text(to_yaml(document), "utf-8")

    catalog = load_catalog([output])

    assert len(catalog.operations) == len(load_catalog().operations) + 1
    operation = catalog.match("POST", "/api/v1.0/MACHINES/7/brew")
    assert operation.name == "Machines_Brew"
    assert operation.body is not None
    assert operation.body.parameters["Origin"].required
    assert operation.body.parameters["Origin"].shape.values == {"Portal", "Api"}


def test_what_the_catalog_has_is_left_out_unless_all_is_asked_for(file: Callable[..., Path]) -> None:
    path = file(XML)

    assert imported(path).translation.written == (
        "GET /api/Machines/{id}",
        "POST /api/Machines/{id}/Brew",
    )
    assert imported(path).translation.left_out == ("GET /api/Machines", "POST /api/Machines/{id}/Isolate")
    everything = imported(path, takes_all=True)
    assert len(everything.translation.written) == 4
    assert everything.translation.left_out == ()
    assert everything.document["paths"].keys() > imported(path).document["paths"].keys()


def test_a_name_that_the_catalog_has_given_away_is_not_given_again(file: Callable[..., Path]) -> None:
    elsewhere = {"openapi": "3.1.0", "paths": {"/elsewhere": {"get": {"operationId": "Machines_Brew"}}}}

    document = import_metadata(file(XML), [elsewhere]).document

    assert document["paths"]["/api/Machines/{id}/Brew"]["post"]["operationId"] == "Machines_Brew_id"


def test_the_prefix_decides_what_the_catalog_has(file: Callable[..., Path]) -> None:
    assert imported(file(XML), prefix="/odata/").translation.left_out == ()
    assert imported(file(XML), prefix="/odata/").translation.written[0] == "GET /odata/Machines"
    assert imported(file(XML), prefix="").translation.written[0] == "GET /Machines"


@pytest.mark.parametrize("prefix", ["api", "/a b", "/{tenant}", "/a?b", "/a#b", "/a\n"])
def test_a_prefix_that_is_no_path_is_refused(file: Callable[..., Path], prefix: str) -> None:
    assert refusal(file(XML), prefix=prefix).startswith(f"--prefix {prefix!r}: must be a path such as /api")


def test_the_document_is_written_in_order_and_without_references(file: Callable[..., Path]) -> None:
    document = imported(file(XML), takes_all=True).document

    text = to_yaml(document)

    validate(yaml.safe_load(text))
    assert yaml.safe_load(text) == document
    assert [*yaml.safe_load(text)["paths"]] == [*document["paths"]]
    assert "&id" not in text
    assert "      id: {type: string, x-source: metadata}\n" in text
    assert text == to_yaml(imported(file(XML), takes_all=True).document)


def test_a_document_without_anything_new_is_written_too(file: Callable[..., Path]) -> None:
    everything = imported(file(XML), takes_all=True).document

    document = import_metadata(file(XML), [everything]).document

    assert (document["paths"], document["components"]["schemas"]) == ({}, {})
    assert yaml.safe_load(to_yaml(document)) == document


def test_writing_a_document_takes_little_more_memory_than_the_text(file: Callable[..., Path]) -> None:
    properties = "".join(f'<Property Name="p{index}" Type="Edm.String"/>' for index in range(1_000))
    types = "".join(f'<EntityType Name="T{index}" BaseType="Bar.Machine"/>' for index in range(5))
    sets = "".join(f'<EntitySet Name="S{index}" EntityType="Bar.T{index}"/>' for index in range(5))
    content = XML.replace("<EnumType", types + "<EnumType").replace("</EntityContainer>", sets + "</EntityContainer>")
    document = imported(file(content.replace("<Property ", properties + "<Property ", 1))).document

    tracemalloc.start()
    text = to_yaml(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert yaml.safe_load(text) == document
    assert peak < 20 * len(text)


def test_the_comparison_tells_what_the_service_knows_and_where_it_disagrees(file: Callable[..., Path]) -> None:
    comparison = compare_metadata(file(XML), [CATALOG])

    assert render_text(comparison) == (
        "Both have 2 operations and 1 type. 7 differences.\n"
        "\n"
        "Actions that the catalog does not have (1)\n"
        "  POST /api/Machines/{id}/Brew  Origin\n"
        "\n"
        "Reads that the catalog does not have (1)\n"
        "  GET /api/Machines/{id}\n"
        "\n"
        "Parameters that the catalog does not have (1)\n"
        "  isolateMachine  Origin  Portal, Api\n"
        "\n"
        "Properties that the catalog does not have, by type (1)\n"
        "  Machine  id, origin (the catalog has none at all)\n"
        "\n"
        "Spelt otherwise (1)\n"
        "  isolateMachine  isolationType  service: isolationType; catalog: IsolationType\n"
        "\n"
        "Of another type (1)\n"
        "  isolateMachine  isolationType  service: integer; catalog: string\n"
        "\n"
        "Required by one of the two alone (1)\n"
        "  isolateMachine  Comment  service: may be null or left out; catalog: required\n"
    )
    assert comparison
    assert not compare_metadata(file(XML), [imported(file(XML), takes_all=True).document])


def test_no_difference_is_told_as_such() -> None:
    assert render_text(Comparison(3, 2, ())) == "Both have 3 operations and 2 types. No differences.\n"


def test_long_rows_are_wrapped_beside_their_label() -> None:
    names = tuple(f"parameter{index}" for index in range(20))
    comparison = Comparison(1, 0, (Finding(Difference.PARAMETER, "brew", "Origin", names),))

    rows = render_text(comparison).splitlines()[3:]

    assert rows[0].startswith("  brew  Origin  parameter0, ")
    assert all(row.startswith(" " * 16 + "parameter") for row in rows[1:])
    assert max(map(len, rows)) <= 110
    assert " ".join(rows).split()[2:] == [f"{name}," for name in names[:-1]] + [names[-1]]


@pytest.mark.parametrize("width", [40, 80, 110])
def test_rows_are_folded_to_the_width_asked_for(width: int) -> None:
    names = ("x" * 30, *(f"name{index}" for index in range(20)))
    comparison = Comparison(
        2,
        1,
        (
            Finding(Difference.ACTION, "POST /api/Machines/{id}/IsolateMore", "", names),
            Finding(Difference.ACTION, "POST /brew", "", ("Origin",)),
            Finding(Difference.READ, "GET /api/" + "x" * 200, "", ()),
        ),
    )

    actions, reads = render_text(comparison, width).split("\n\n")[1:]

    assert max(map(len, actions.splitlines())) <= width
    words = actions.replace(",", "").split()
    assert words[words.index(names[0]) :] == [*names, "POST", "/brew", "Origin"]
    assert len(reads.splitlines()) == 2


def test_a_terminal_may_be_of_no_width_at_all() -> None:
    assert render_text(Comparison(0, 0, (Finding(Difference.ACTION, "POST /brew", "", ("Origin",)),)), 0)


def test_the_comparison_comes_as_json_too(file: Callable[..., Path]) -> None:
    comparison = compare_metadata(file(XML), [CATALOG])

    told = json.loads(render_json(comparison))

    assert (told["operations"], told["types"], len(told["differences"])) == (2, 1, 7)
    assert told["differences"][0] == {
        "kind": "action",
        "place": "POST /api/Machines/{id}/Brew",
        "name": "",
        "service": ["Origin"],
        "catalog": [],
    }


def test_the_shipped_catalog_can_be_compared_with(file: Callable[..., Path]) -> None:
    comparison = compare_metadata(file(XML), shipped())

    assert comparison.operations >= 2
    assert Finding(Difference.ACTION, "POST /api/Machines/{id}/Brew", "", ("Origin",)) in comparison.findings
    assert any(finding.place == "isolateMachine" and finding.name == "Origin" for finding in comparison.findings)


def test_the_summary_tells_what_is_in_and_what_is_not(file: Callable[..., Path]) -> None:
    path = file(XML.replace('Type="Bar.Origin"/>', 'Type="Bar.Lost"/>'))

    lines = summary(imported(path))

    assert lines[0] == f"{path}: line 8, column 9: its Type 'Bar.Lost' is not in the document: it may hold anything"
    assert lines[1] == f"{path}: 2 operations, 1 of them actions, are in the new document"
    assert lines[2].startswith(f"{path}: 2 operations are not, since the shipped catalog has them; ")
    assert len(summary(imported(path, takes_all=True))) == 2


def test_the_summary_names_so_many_faulty_places_and_counts_the_others(file: Callable[..., Path]) -> None:
    path = file(XML.replace("<EnumType Name=", '<EnumType Name="!"/>' * 50 + "<EnumType Name="))

    lines = summary(imported(path))

    assert sum("its Name '!' is none" in line for line in lines) == 20
    assert lines[20] == f"{path}: 30 more such places"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(XML.encode("utf-8-sig"), id="utf-8-with-a-mark"),
        pytest.param(XML.encode("utf-16"), id="utf-16-as-powershell-writes-it"),
        pytest.param(XML.encode("utf-16-be"), id="utf-16-without-a-mark"),
        pytest.param(XML.replace('"utf-8"', '"utf-16"').encode("utf-16"), id="utf-16-declared"),
        pytest.param(XML.replace('"utf-8"', '"iso-8859-1"').encode("latin-1"), id="latin-1-declared"),
        pytest.param(XML.partition("\n")[2].encode(), id="no-declaration"),
        pytest.param(XML.replace("\n", "\r\n").encode(), id="lines-of-windows"),
        pytest.param(XML.replace("\n", "").encode(), id="one-line"),
    ],
)
def test_it_is_read_in_any_encoding_that_xml_knows(file: Callable[..., Path], content: bytes) -> None:
    assert len(imported(file(content)).translation.written) == 2


def test_standard_input_is_read_for_a_hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(XML.encode())))

    assert len(imported(STANDARD_INPUT).translation.written) == 2


SAVE_AGAIN = "save the whole answer to GET /api/$metadata, sent with a token and `Accept: application/xml`"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", f"FILE: is empty; {SAVE_AGAIN}", id="empty"),
        pytest.param("\ufeff \r\n", f"FILE: is empty; {SAVE_AGAIN}", id="white-space"),
        pytest.param('{"$Version": "4.01"}', f"FILE: is JSON; {SAVE_AGAIN}", id="json"),
        pytest.param('{"cut', f"FILE: is JSON; {SAVE_AGAIN}", id="json-cut-off"),
        pytest.param("[" * 100_000, f"FILE: is JSON; {SAVE_AGAIN}", id="json-nested-deeply"),
        pytest.param(
            '{"error": {"code": "Unauthorized", "message": "no"}}',
            f"FILE: is JSON, the service's error Unauthorized; {SAVE_AGAIN}",
            id="error-of-the-service",
        ),
        pytest.param(
            '{"error": {"code": "\\u001b[31m"}}', f"FILE: is JSON; {SAVE_AGAIN}", id="error-with-control-characters"
        ),
        pytest.param("<!DOCTYPE html><p>Sign in", f"FILE: is an HTML page; {SAVE_AGAIN}", id="html"),
        pytest.param(b"\xef\xbb\xbf\n<HTML>", f"FILE: is an HTML page; {SAVE_AGAIN}", id="html-without-doctype"),
        pytest.param(
            '<?xml version="1.0"?>\n<!DOCTYPE html><html/>', f"FILE: is an HTML page; {SAVE_AGAIN}", id="xhtml"
        ),
        pytest.param("<html>".encode("utf-16"), f"FILE: is an HTML page; {SAVE_AGAIN}", id="html-in-utf-16"),
        pytest.param("{}".encode("utf-16"), f"FILE: is JSON; {SAVE_AGAIN}", id="json-in-utf-16"),
        pytest.param(b"\x1f\x8b\x08\x00", f"FILE: is compressed; unpack it, or {SAVE_AGAIN}", id="gzip"),
        pytest.param("edmx:Edmx", f"FILE: is not XML: it begins with b'edmx:Edmx'; {SAVE_AGAIN}", id="text"),
        pytest.param(b"\0" * 500, f"FILE: is not XML: it begins with {bytes(20)!r}; {SAVE_AGAIN}", id="zeros"),
        pytest.param(XML[:700], f"FILE: line 14: ends in the middle; {SAVE_AGAIN}", id="truncated"),
        pytest.param(XML[:-12], f"FILE: line 26: ends in the middle; {SAVE_AGAIN}", id="truncated-in-a-tag"),
        pytest.param("<a><b></a>", f"FILE: line 1: is not XML: mismatched tag (column 9); {SAVE_AGAIN}", id="tags"),
        pytest.param(
            XML.replace("Bar", "B\xe4r").encode("latin-1"),
            "FILE: line 4: is not in the encoding that it declares (UTF-8, where it declares none); "
            "save it byte for byte",
            id="latin-1",
        ),
        pytest.param(
            '<?xml version="1.0" encoding="klingon"?><a/>',
            "FILE: line 1: declares an encoding that cannot be read; save it as UTF-8",
            id="unknown-encoding",
        ),
        pytest.param(
            '<?xml version="1.0" encoding="utf-7"?><a/>',
            "FILE: line 1: declares an encoding that cannot be read; save it as UTF-8",
            id="unreadable-encoding",
        ),
        pytest.param(
            b"\xff\xfe<\0a",
            f"FILE: begins as UTF-16 text, but is none; {SAVE_AGAIN}",
            id="utf-16-with-half-a-character",
        ),
        pytest.param(
            BILLION_LAUGHS,
            "FILE: line 2: holds a document type declaration, which is refused, since entities can fill the memory "
            "and read other files; metadata has none",
            id="billion-laughs",
        ),
        pytest.param(
            '<!DOCTYPE e SYSTEM "file:///etc/passwd"><e/>',
            "FILE: line 1: holds a document type declaration, which is refused, since entities can fill the memory "
            "and read other files; metadata has none",
            id="external-document-type",
        ),
        pytest.param(
            '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]><e>&x;</e>',
            "FILE: line 1: holds a document type declaration, which is refused, since entities can fill the memory "
            "and read other files; metadata has none",
            id="external-entity",
        ),
        pytest.param(
            "<a>" * 100_000,
            "FILE: line 1, column 301: elements are nested more than 100 deep, as no service's metadata does",
            id="nested-100000-deep",
        ),
        pytest.param(
            "<a>" + "<b/>" * ELEMENTS_AT_MOST,
            f"FILE: line 1, column {4 * ELEMENTS_AT_MOST}: there are more than {ELEMENTS_AT_MOST} elements, "
            "as no service's metadata does",
            id="300000-elements",
        ),
        pytest.param(
            f'<a b="{"x" * 5_000_000}"/>',
            "FILE: line 1, column 1: is no OData metadata: its root is 'a', not edmx:Edmx",
            id="huge-attribute",
        ),
        pytest.param(
            f"<{'a' * 5_000_000}/>",
            f"FILE: line 1, column 1: is no OData metadata: its root is '{'a' * 60}…', not edmx:Edmx",
            id="huge-name",
        ),
        pytest.param(
            b"<" * (BYTES_AT_MOST + 1),
            f"FILE: holds more than {BYTES_AT_MOST} bytes, as no service's metadata does",
            id="huge-file",
        ),
        pytest.param(
            '<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx"/>',
            "FILE: line 1, column 1: is metadata of OData 3 or older; only OData 4 is read",
            id="version-3",
        ),
        pytest.param(
            '\n  <edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"/>',
            "FILE: line 2, column 3: holds no Schema; save the whole answer to GET /api/$metadata",
            id="no-schema",
        ),
    ],
)
def test_what_is_no_metadata_is_refused_with_place_and_remedy(
    file: Callable[..., Path], content: str | bytes, expected: str
) -> None:
    assert refusal(file(content)) == expected


def test_every_beginning_of_the_file_is_refused_in_one_way(file: Callable[..., Path]) -> None:
    content = XML.encode()

    for length in range(0, len(content.rstrip()), 7):
        assert refusal(file(content[:length])).startswith("FILE: ")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.xml") == "FILE: cannot be read: No such file or directory"
    assert refusal(tmp_path) == "FILE: cannot be read: Is a directory"


def test_the_document_is_saved(file: Callable[..., Path], tmp_path: Path) -> None:
    save("openapi: 3.1.0\n", imported(file(XML)), tmp_path / "new.yaml")

    assert (tmp_path / "new.yaml").read_text("utf-8") == "openapi: 3.1.0\n"


def test_the_metadata_itself_is_not_written_over(file: Callable[..., Path], tmp_path: Path) -> None:
    path = file(XML)
    (tmp_path / "link").symlink_to(path)

    for output in (path, tmp_path / "link"):
        with pytest.raises(MetadataError, match="is the file with the metadata; choose another"):
            save("", imported(path), output)
    assert path.read_text("utf-8") == XML


def test_an_output_that_cannot_be_written_is_told(file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="cannot be written: No such file or directory"):
        save("", imported(file(XML)), tmp_path / "none" / "new.yaml")
