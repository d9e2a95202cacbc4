"""What was recorded of samples: messages become pictures, sound and text again."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

import numpy as np
from foxglove_schemas_protobuf.CompressedAudio_pb2 import CompressedAudio
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from google.protobuf.message import DecodeError

from agent.recording.codec import OpusReader, unpack_frame, unpack_sound
from agent.types import F32, Audio, Frame, Payload, Text
from sensors.session_files import SessionError

MESSAGES: dict[str, Any] = {
    message.DESCRIPTOR.full_name: message for message in (CompressedAudio, CompressedImage, Log, RawAudio, RawImage)
}
"""By the name of the schema."""


class Payloads:
    """Turns the messages of one part into payloads; sound in packets is joined and cut up as it was."""

    def __init__(self, said_of: str) -> None:
        """``said_of`` names the part in what is raised."""
        self._said_of = said_of
        self._waiting: dict[str, Any] = {}
        self._opus: dict[str, OpusReader] = defaultdict(OpusReader)
        self._sound: dict[str, F32] = defaultdict(lambda: np.zeros(0, np.float32))

    def add(self, source: str, schema: str, data: bytes) -> None:
        """A message of a source. Raises `SessionError`."""
        try:
            message = MESSAGES[schema].FromString(data)
            if isinstance(message, CompressedAudio):
                self._sound[source] = np.concatenate([self._sound[source], self._opus[source].feed(message.data)])
            else:
                self._waiting[source] = message
        except KeyError:
            raise SessionError(f"{self._said_of}: {source} is in the schema {schema!r}, which is not known") from None
        except (DecodeError, ValueError) as error:
            raise SessionError(f"{self._said_of}: a message of {source} is damaged ({error})") from None
        except ImportError:
            raise SessionError(
                f"{self._said_of}: {source} was recorded as Opus, which needs PyAV: pip install 'attune[media]'"
            ) from None

    def take(self, row: dict[str, Any]) -> Payload | None:
        """The payload that belongs to a row of a sample; None while its packets are still to come."""
        source = row["source"]
        if row.get("coded"):
            sound, size = self._sound[source], int(row["size"])
            if len(sound) < size:
                return None
            self._sound[source] = sound[size:]
            return Audio(sound[:size])
        message = self._waiting.pop(source, None)
        try:
            match message:
                case RawImage() | CompressedImage():
                    return Frame(unpack_frame(message))
                case RawAudio():
                    return Audio(unpack_sound(message))
                case Log():
                    origin: Literal["message", "speech"] = "speech" if row.get("origin") == "speech" else "message"
                    return Text(message.message, row.get("lang"), origin)
        except ValueError as error:
            raise SessionError(f"{self._said_of}: {source} holds {error}; copy or record it again") from None
        raise SessionError(f"{self._said_of}: a row of {source} has no message; it was not written by Attune")
