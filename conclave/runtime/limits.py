"""What fits into what, in bytes. Topics, producers, outputs and dead letters take their limits from here, so they agree.

    output of a handler or joiner  ≤  MAX_OUTPUT_BYTES  <  MAX_RECORD_BYTES  ≤  MAX_BATCH_BYTES  =  a topic's limit
                                                        └─ room for what gives it up again: the same context, a message

All counts of a record's bytes are those of `Output.size`: key, value, headers and the overhead of a batch of its own, so
that what is within MAX_RECORD_BYTES always goes through. A broker checks a batch as it is stored: one that a producer has
compressed may hold records that are far larger, and those are the ones that a dead letter has no room for.
"""

# `max.message.bytes` of every topic: of a batch as it is stored.
MAX_BATCH_BYTES = 2 << 20

# Of a record that is alone in its batch, and so of a dead letter, and of what is published when something is given up.
MAX_RECORD_BYTES = MAX_BATCH_BYTES

# What gives up an event repeats its context and adds a message, or one bare ballot or verdict each for 256 samples.
_LAST_WORDS_BYTES = 128 << 10
MAX_OUTPUT_BYTES = MAX_RECORD_BYTES - _LAST_WORDS_BYTES

# What is larger than a topic takes without compression is not parsed: no event is.
MAX_VALUE_BYTES = MAX_BATCH_BYTES

# Of one completion, which is published in one transaction: 256 samples of the longest question are 25 MiB, and a slow
# broker takes 64 MiB well within a transaction's time limit.
MAX_COMPLETION_BYTES = 64 << 20

# Of the dead letters of one completion: a large group's further ones go without their values.
MAX_DEAD_LETTERS_BYTES = 16 << 20

# A v2 batch's header (61), and a record's own length, attributes, timestamp and offset deltas, key and value lengths and
# number of headers, each as long as a varint can be. Headers have two lengths each.
BATCH_OVERHEAD_BYTES = 61 + 40
HEADER_OVERHEAD_BYTES = 10

# Of the batches that producers fill; a record that is larger than this has one of its own.
PRODUCER_BATCH_BYTES = 1 << 20
