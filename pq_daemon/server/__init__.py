"""The aiohttp application: pages, API, live hub, who may do what."""
