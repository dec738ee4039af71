"""The Kafka shell that all services share: consume, handle, publish, commit."""
