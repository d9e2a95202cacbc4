"""The agent's side of the MQTT contract: one noun a module, and `Publisher` in the middle."""

from agent.mqtt.address import Address
from agent.mqtt.connection import V5, V311, connection
from agent.mqtt.publisher import Publisher
from agent.mqtt.waiting import either, heed_cancellation

__all__ = ["V5", "V311", "Address", "Publisher", "connection", "either", "heed_cancellation"]
