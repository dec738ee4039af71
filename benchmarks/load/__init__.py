"""`make load`: what a stack does under load, level after level, as text and as one HTML file."""
