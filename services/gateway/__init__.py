"""The gateway: HTTP in and out, for people and their programs. It keeps no state: that is Kafka's and Postgres's."""
