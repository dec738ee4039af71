"""What `conclave acls` shows: each service's rights follow from the table of the flow, and are no more."""

import json

import pytest
from click.testing import CliRunner

from conclave.cli.acls import acls
from conclave.runtime.rights import (
    Operation,
    Resource,
    Right,
    rights_of_operator,
    rights_of_producer,
    rights_of_service,
)
from schemas import flow


@pytest.mark.parametrize("row", flow.SERVICES.values(), ids=lambda row: row.name)
def test_a_service_writes_what_it_emits_and_reads_what_it_consumes_or_hears(row: flow.ServiceRow) -> None:
    rights = rights_of_service(row)
    of_topics = {
        (each.operation, each.name) for each in rights if each.resource is Resource.TOPIC and not each.is_prefix
    }
    read = {name for operation, name in of_topics if operation is Operation.READ}
    shown = {name for name in read if name.endswith(flow.DEAD_LETTER_SUFFIX)}  # on the gateway's pages
    assert read - shown == {*row.consumes, *row.broadcasts}
    assert bool(shown) is row.serves_web
    written = {name for operation, name in of_topics if operation is Operation.WRITE}
    emitted = {flow.topic_of(event).value for event in row.emits}
    assert written >= emitted
    assert all(name.endswith(flow.DEAD_LETTER_SUFFIX) for name in written - emitted)
    assert len(set(rights)) == len(rights)
    groups = {each.name for each in rights if each.resource is Resource.GROUP and each.operation is Operation.READ}
    assert groups == ({row.name} if row.consumes else set())
    described = {each.name for each in rights if each.resource is Resource.GROUP} - groups
    assert described >= set(row.keeps_pace_with)


def test_a_topic_s_dead_letters_are_written_by_its_guardian_and_by_the_record_s_keeper_alone() -> None:
    for row in flow.TOPICS:
        letters = flow.dead_letter_topic(row.topic)
        writers = {name for name, service in flow.SERVICES.items() if (Operation.WRITE, letters) in written(service)}
        keepers = {each.name for each in flow.SERVICES.values() if each.keeps_offsets and row.topic in each.consumes}
        assert writers == (set() if row.is_broadcast else {row.guardian, *keepers})


def written(service: flow.ServiceRow) -> set[tuple[Operation, str]]:
    return {(right.operation, right.name) for right in rights_of_service(service)}


def test_the_command_names_principals_as_it_is_told_and_writes_lines_for_kafka_s_own_tool() -> None:
    runner = CliRunner()
    told = json.loads(
        runner.invoke(acls, ["--json", "--principal", "User:CN={service}", "--producer", "User:shop"]).output
    )
    assert {each["principal"] for each in told} == {*(f"User:CN={name}" for name in flow.SERVICES), "User:shop"}
    assert sum(each["principal"] == "User:shop" for each in told) == len(rights_of_producer())
    lines = runner.invoke(acls, ["--commands", "--operator", "User:ann"]).output.splitlines()
    assert len([line for line in lines if "User:ann" in line]) == len(rights_of_operator())
    assert (
        "kafka-acls.sh --bootstrap-server HOST:PORT --add --allow-principal User:voter --operation Write "
        "--transactional-id conclave.voter. --resource-pattern-type prefixed"
    ) in lines
    table = runner.invoke(acls, []).output
    assert "User:decoder" in table
    assert "reasoning.*" in table


def test_nobody_but_an_operator_may_make_a_topic() -> None:
    assert Right(Operation.CREATE, Resource.TOPIC, "reasoning.", is_prefix=True) in rights_of_operator()
    everybody = [right for row in flow.SERVICES.values() for right in rights_of_service(row)] + [*rights_of_producer()]
    assert Operation.CREATE not in {right.operation for right in everybody}
