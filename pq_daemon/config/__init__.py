"""Settings: what config.toml may say, validated as a whole, all errors at once."""

from pq_daemon.config.settings import (
    BackoffSettings,
    DaemonSettings,
    QueueSettings,
    RetentionSettings,
    ServerSettings,
    Settings,
    StoreSettings,
    UserSettings,
    WatchSettings,
)

__all__ = [
    "BackoffSettings",
    "DaemonSettings",
    "QueueSettings",
    "RetentionSettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "UserSettings",
    "WatchSettings",
]
