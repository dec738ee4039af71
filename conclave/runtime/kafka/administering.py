"""Topics, rights, and what consumer groups have come to."""

import contextlib
from collections.abc import Collection, Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateAclsRequest

from conclave.errors import LostDependency, Rejected
from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka.connecting import CLOSE_S, REQUEST_TIMEOUT_MS, connection_of, limited
from conclave.runtime.record import Tp
from conclave.runtime.rights import Operation, Resource, Right

# Kafka's numbers for its words: org.apache.kafka.common.resource.ResourceType, PatternType, acl.AclOperation, AclPermissionType.
_RESOURCES = {Resource.TOPIC: 2, Resource.GROUP: 3, Resource.TRANSACTIONAL_ID: 5}
_OPERATIONS = {
    Operation.READ: 3, Operation.WRITE: 4, Operation.CREATE: 5, Operation.DESCRIBE: 8, Operation.DESCRIBE_CONFIGS: 10,
}  # fmt: skip
_LITERAL, _PREFIXED, _ALLOW, _ANY_HOST = 3, 4, 3, "*"


class Admin:
    """Topics, committed offsets, and rights."""

    def __init__(self, brokers: Brokers | str) -> None:
        self._client = AIOKafkaAdminClient(**connection_of(brokers), request_timeout_ms=REQUEST_TIMEOUT_MS)

    async def __aenter__(self) -> "Admin":
        await limited(self._client.start())
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(LostDependency):
            await limited(self._client.close(), CLOSE_S)

    async def topics(self) -> dict[str, int]:
        """Every topic with its number of partitions."""
        described = await limited(self._client.describe_topics())
        return {row["topic"]: len(row["partitions"]) for row in described}

    async def create_topic(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> None:
        """Creates a topic; an existing one is left as it is. Raises: LostDependency."""
        await self.create_topics({name: (partitions, config)}, replication)

    async def create_topics(self, topics: Mapping[str, tuple[int, Mapping[str, str]]], replication: int) -> None:
        """Creates topics of so many partitions and with these settings, in one request; existing ones are left as they are.

        Raises: LostDependency, and KafkaError for what the broker does not allow.
        """
        wanted = [
            NewTopic(name, each, replication, topic_configs=dict(config)) for name, (each, config) in topics.items()
        ]
        response = await limited(self._client.create_topics(wanted))
        for name, code, *message in response.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise for_code(code)(f"topic {name}: {message[0] if message else ''}")

    async def topic_config(self, name: str) -> dict[str, str]:
        """A topic's settings, defaults included."""
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        responses = await limited(self._client.describe_configs([resource]))
        return {entry[0]: entry[1] for response in responses for row in response.resources for entry in row[4]}

    async def grant(self, principal: str, right: Right) -> None:
        """Lets somebody do something, from any host. Raises: LostDependency, Rejected where that may not be altered here."""
        pattern = _PREFIXED if right.is_prefix else _LITERAL
        request = CreateAclsRequest(
            _RESOURCES[right.resource], right.name, pattern, principal, _ANY_HOST, _OPERATIONS[right.operation], _ALLOW
        )
        response = await limited(self._client._send_to_controller(request))
        for code, message in response.creation_responses:
            if code:
                expected = "brokers with an authoriser, and to be one who may alter the cluster"
                raise Rejected("acls", expected, f"{for_code(code).__name__}: {message}")

    async def committed(self, group: str, partitions: Collection[Tp] | None = None) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        wanted = None if partitions is None else [TopicPartition(*tp) for tp in partitions]
        found = await limited(self._client.list_consumer_group_offsets(group, partitions=wanted))
        return {Tp(*tp): (each.offset, each.metadata or "") for tp, each in found.items() if each.offset >= 0}

    async def num_members(self, group: str) -> int:
        """How many are in a consumer group; 0 where there is none. Raises: LostDependency."""
        responses = await limited(self._client.describe_consumer_groups([group]))
        described = [row for response in responses for row in response.groups]
        for error_code, *_ in described:
            if error_code:
                raise LostDependency("kafka", repr(for_code(error_code)(f"group {group}")))
        return sum(len(row[5]) for row in described)


class GroupReader:
    """Reads what a consumer group has come to, on one connection that it keeps."""

    def __init__(self, brokers: Brokers | str, consumer_group: str) -> None:
        self._admin, self._group = Admin(brokers), consumer_group

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._admin.__aenter__()

    async def committed(self, partitions: Collection[Tp]) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        return await self._admin.committed(self._group, partitions)

    async def num_members(self) -> int:
        """How many are in the group now. Raises: LostDependency."""
        return await self._admin.num_members(self._group)

    async def stop(self) -> None:
        """Closes the connections."""
        await self._admin.__aexit__()
