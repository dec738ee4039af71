"""The only package that knows aiokafka: conclave.runtime.broker's ports on Apache Kafka, and the administration of topics.

    connecting      where it connects, and a limit on every call
    consuming       GroupConsumer, LogReader
    producing       TransactionalProducer, PlainProducer
    administering   Admin, GroupReader
    cluster         Kafka, which makes them
    header_names, partitions    what aiokafka does otherwise than brokers and Java's clients do

Everyone else imports from here. Every call that talks to the broker is under a time limit: several of aiokafka's can wait for
ever with the broker away. Nine places reach into its private parts (the version is pinned, and
tests/integration/test_kafka_adapter.py guards them):

    here            the parser in C
    producing       the sender's backoff
    consuming       a member's generation, its heartbeat, its position now, the touch that says that a full service lives; a
                    reader's metadata
    administering   the granting of rights (tests/integration/test_tls.py)
    header_names    the parser of a fetch
"""

import logging

from aiokafka.record._crecords import default_records as _c_extension  # noqa: F401  (13 times slower without: fail at start)

from conclave.runtime.kafka import header_names  # noqa: F401  (header names of any bytes: at import)
from conclave.runtime.kafka.administering import Admin, GroupReader
from conclave.runtime.kafka.cluster import Kafka
from conclave.runtime.kafka.consuming import GroupConsumer, LogReader
from conclave.runtime.kafka.producing import PlainProducer, TransactionalProducer

__all__ = ["Admin", "GroupConsumer", "GroupReader", "Kafka", "LogReader", "PlainProducer", "TransactionalProducer"]

# aiokafka logs every refused connection at error level, many a second. The runtime says once that the broker is away.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
