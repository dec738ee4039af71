"""Structured answers: JSON that a schema of the request describes, put to the vote field by field.

1. the door     `answer_schema.accepted`: a schema that can be checked in bounded time, its references written out
2. the path     program `structured`: thinks freely, and says its answer in a last turn that the engine holds to the schema
3. the vote     `fields`: what each path says in each field, as labels; `vote`: a winner for each field, and one object of them
"""
