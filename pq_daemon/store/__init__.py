"""The only room that knows SQL: one protocol, its engines, the feed of committed facts, the outputs.

Everyone else imports from here: the protocol and its values. The engine is chosen in `open_store`.
"""
