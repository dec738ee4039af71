"""`conclave report`: sections of a table and a plot each (`sections`), for a terminal (`terminal`) or as one HTML file (`page`)."""
