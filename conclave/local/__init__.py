"""The embedded stack: real Kafka, real PostgreSQL, the shipped model and every service, without Docker.

Three rooms, each on the one before; `errors` is below them all.

machine   launch, ports -> process: children that leave nothing behind
servers   jars, postgres_files, server -> kafka_cache -> kafka, postgres
the stack state, probe, held -> board, plan, service, display -> keeper, stack, watchdog, detached
          -> supervisor, kafka_training -> commands
"""
