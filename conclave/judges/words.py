"""What a judge and its process say to each other."""

READY, OUT_OF_TIME = "ready", "-"
WALL_FACTOR = 4.0  # of the CPU time that a pair may take: on a machine that is full it takes longer
