"""Where the samples of a remote source lie on our clock. Pure."""

from __future__ import annotations

from agent.clock import MS
from agent.remote.clocks import ClockId
from agent.remote.offset import OffsetFilter
from sensors.remote_packet import BadPacket, Form, Packet


class RemoteLine:
    """Places packets of one source by the offset of their clock, so that an estimate that moves tears nothing apart.

    A block that follows the last one begins where that one ended; where `in_order`, ends rise from sample to sample.
    No stamp is made less certain by that: what is moved lies between the placed and the true end of its neighbour.
    """

    AHEAD_NS = 1 * MS
    """A stamp may exceed the arrival by the uncertainty and this; further, it is not a time of that clock."""

    def __init__(self, *, max_uncertainty_ns: int, in_order: bool) -> None:
        self._max_uncertainty_ns = max_uncertainty_ns
        self._in_order = in_order
        self._clock: ClockId | None = None
        self._seq = -1
        self._edge: tuple[int, int] = (-1, 0)  # end of the last sample: on the sender's clock, and on ours
        self._end_ns = 0

    def place(self, packet: Packet, offset: OffsetFilter, arrival_ns: int) -> tuple[int, int]:
        """Our clock at both ends of the packet; raises `BadPacket`.

        Reasons: ``order`` (older than the last, or that one again), ``uncertain`` (its clock is not known well
        enough), ``stamp`` (it claims to be of the future).
        """
        if packet.clock != self._clock:
            self._clock, self._seq, self._edge = packet.clock, -1, (-1, 0)
        if packet.form is not Form.WATERMARK:
            if packet.seq <= self._seq or (self._in_order and packet.end_ns <= self._edge[0]):
                raise BadPacket("order")
            self._seq = packet.seq
        t_ns, _ = offset.local_ns(packet.t_ns)
        end_ns, uncertainty_ns = offset.local_ns(packet.end_ns)
        if uncertainty_ns > self._max_uncertainty_ns:
            raise BadPacket("uncertain")
        if end_ns > arrival_ns + uncertainty_ns + self.AHEAD_NS:
            raise BadPacket("stamp")
        end_ns = min(end_ns, arrival_ns)
        if packet.form is Form.WATERMARK:
            return end_ns, end_ns
        if self._in_order:
            end_ns = max(end_ns, self._end_ns + 1)
            if packet.t_ns == self._edge[0]:
                t_ns = self._edge[1]
            self._end_ns = end_ns
            self._edge = packet.end_ns, end_ns
        return min(t_ns, end_ns), end_ns
