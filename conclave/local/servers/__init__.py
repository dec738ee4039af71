"""The servers of the embedded stack: Kafka from its jars, PostgreSQL from its wheel, each as a `Server`."""
