"""The only room that knows SQL: a protocol, its engines, the feed of facts, the outputs.

Everyone else imports from here: the protocol and its values. `engines.open_store` opens one.
"""
