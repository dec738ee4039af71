"""What recorded requests would have come to under another policy, and what that is worth.

`again` thinks them through once more on the paths that there are; `worth` compares the answers by what was said of them.
"""
